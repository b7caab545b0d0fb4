package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// requestTimeout is how long one Consul server may take to answer.
const requestTimeout = 2 * time.Second

// lossPercent is how many of all frames a lossy switch loses.
const lossPercent = 5

// serviceInterface is where the addresses are, on every host.
const serviceInterface = "eth0"

// reportViolation records that an invariant did not hold.
type reportViolation func(invariant, format string, args ...any)

// chaosLab is the lab with the instances of consul-vip and the faults that its machines
// can have.
type chaosLab struct {
	*lab.Lab
	nodes   []*node
	servers []*machine // of Consul; those of the nodes, if the servers are there
	foreign foreign
	excuses excuses
	journal *journal

	switchOff, lossy *refcount // of the switch of the addresses
}

// machine is a machine on which a Consul agent runs, with the harms that can be done to
// it.
type machine struct {
	*lab.Host
	consul *lab.ConsulAgent

	consulDown, consulFrozen, cut, unplugged *refcount // unplugged: Consul's cable
	stalled                                  *refcount
}

// node is a machine with an instance of consul-vip, and the harms that can be done to
// that.
type node struct {
	*machine
	instance *supervisor

	halted, linkDown *refcount // linkDown: the cable of the addresses
}

// newChaosLab starts the lab. The instances do not run yet.
func newChaosLab(ctx context.Context, o options, j *journal, violated reportViolation) (*chaosLab, error) {
	started, err := lab.Start(ctx, lab.Config{Programs: o.programs, Cluster: o.world.Cluster(), Observe: allVIPs()})
	if err != nil {
		return nil, err
	}
	l := &chaosLab{Lab: started, journal: j}
	l.foreign.host = l.Client
	l.excuses.unaware = func(host string, since time.Time) bool { return l.nodeOf(host).instance.unaware(since) }
	l.harmSwitch()
	machines := make(map[*lab.ConsulAgent]*machine)
	for _, a := range l.Cluster.All() {
		machines[a] = newMachine(a)
	}
	for _, a := range l.Cluster.Servers {
		l.servers = append(l.servers, machines[a])
	}
	for _, a := range l.Cluster.Agents {
		n, err := l.newNode(machines[a], violated)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.nodes = append(l.nodes, n)
	}
	return l, nil
}

// harmSwitch prepares the harms of the switch of the addresses.
func (l *chaosLab) harmSwitch() {
	l.switchOff = &refcount{
		do:   func() error { return l.SetSwitch(false) },
		undo: func() error { return l.SetSwitch(true) },
	}
	l.lossy = &refcount{
		do:   func() error { return l.Lose(context.Background(), lossPercent) },
		undo: func() error { return l.Lose(context.Background(), 0) },
	}
}

func newMachine(a *lab.ConsulAgent) *machine {
	h := a.Host
	return &machine{
		Host: h, consul: a,
		consulDown: &refcount{do: a.Kill, undo: a.Start},
		// The agent may be dead, or killed in the meantime.
		consulFrozen: &refcount{
			do:   func() error { _ = a.Signal(syscall.SIGSTOP); return nil },
			undo: func() error { _ = a.Signal(syscall.SIGCONT); return nil },
		},
		cut: &refcount{
			do:   func() error { return h.CutOff(context.Background()) },
			undo: func() error { return h.Heal(context.Background()) },
		},
		unplugged: cable(h, h.ConsulInterface),
		stalled:   &refcount{do: h.Stall, undo: h.Resume},
	}
}

// cable is the harm that a cable is out.
func cable(h *lab.Host, ifname string) *refcount {
	return &refcount{
		do:   func() error { return h.Unplug(ifname) },
		undo: func() error { return h.Plug(ifname) },
	}
}

func (l *chaosLab) newNode(m *machine, violated reportViolation) (*node, error) {
	n := &node{machine: m, linkDown: m.unplugged}
	if m.ConsulInterface != serviceInterface {
		n.linkDown = cable(m.Host, serviceInterface)
	}
	file, err := n.configure(none)
	if err != nil {
		return nil, err
	}
	n.instance = newSupervisor(m.Host, l.AgentCommand(file), l.journal, violated, &l.foreign)
	n.halted = &refcount{do: n.instance.halt, undo: n.instance.resume}
	return n, nil
}

// machines returns every machine on which a Consul agent runs.
func (l *chaosLab) machines() []*machine {
	all := slices.Clone(l.servers)
	for _, n := range l.nodes {
		if !slices.Contains(all, n.machine) {
			all = append(all, n.machine)
		}
	}
	return all
}

// leader returns the machine of Consul's leader. The error is errNoTarget if there is
// none.
func (l *chaosLab) leader() (*machine, error) {
	leader, err := l.Cluster.Leader()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTarget, err)
	}
	i := slices.IndexFunc(l.servers, func(m *machine) bool { return m.consul == leader })
	return l.servers[i], nil
}

// configure writes the configuration, without one of the addresses. The instance reads
// it at its next start or reload.
func (n *node) configure(without int) (file string, err error) {
	return n.WriteFile("consul-vip.hcl", []byte(configuration(without)))
}

// request calls f with the API of one Consul server after the other until one has
// answered. It begins with the servers that no fault holds.
func (l *chaosLab) request(ctx context.Context, f func(context.Context, *api.Client) error) error {
	var well, harmed []*machine
	for _, m := range l.servers {
		if m.harmed() {
			harmed = append(harmed, m)
		} else {
			well = append(well, m)
		}
	}
	var errs []error
	for _, m := range append(well, harmed...) {
		once, cancel := context.WithTimeout(ctx, requestTimeout)
		err := f(once, m.consul.API)
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// harmed reports whether a fault keeps the machine's Consul agent from answering.
func (m *machine) harmed() bool {
	return m.consulDown.held() || m.consulFrozen.held() || m.unplugged.held() || m.cut.held() || m.stalled.held()
}

// bound returns the names of the hosts that have each address, as their kernels say.
func (l *chaosLab) bound() (map[netip.Addr][]string, error) {
	bound, err := l.Bound()
	names := make(map[netip.Addr][]string)
	for vip, hosts := range bound {
		names[vip] = lab.NamesOf(hosts)
	}
	return names, err
}

// ownerOf returns the first node that has an address bound. The error is errNoTarget
// if there is none.
func (l *chaosLab) ownerOf(vip netip.Addr) (*node, error) {
	bound, err := l.bound()
	if err != nil {
		return nil, err
	}
	if len(bound[vip]) == 0 {
		return nil, fmt.Errorf("%w: %s is not bound", errNoTarget, vip)
	}
	return l.nodeOf(bound[vip][0]), nil
}

// allowed reports whether a question may have had two answers.
func (l *chaosLab) allowed(d lab.Double) bool { return l.foreign.involved(d) || l.excuses.excused(d) }

// nodeOf returns the node of a host by its name, or nil.
func (l *chaosLab) nodeOf(name string) *node {
	for _, n := range l.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// consulState is the part of Consul's state that the invariants are about.
type consulState struct {
	locks   map[netip.Addr]string // node that holds the lock, or a description of another holder
	members map[string]bool
}

// consulState reads the state with consistent reads, which only a leader with a quorum
// answers.
func (l *chaosLab) consulState(ctx context.Context) (consulState, error) {
	var pairs api.KVPairs
	var sessions []*api.SessionEntry
	err := l.request(ctx, func(ctx context.Context, c *api.Client) (err error) {
		consistent := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
		if pairs, _, err = c.KV().List(keys.All(), consistent); err != nil {
			return err
		}
		sessions, _, err = c.Session().List(consistent)
		return err
	})
	if err != nil {
		return consulState{}, err
	}
	holders := make(map[string]string)
	for _, s := range sessions {
		if holders[s.ID] = s.Node; s.Name != "consul-vip" {
			holders[s.ID] = s.Name + " on " + s.Node
		}
	}
	state := consulState{locks: make(map[netip.Addr]string), members: make(map[string]bool)}
	for _, p := range pairs {
		if p.Session == "" {
			continue
		}
		if vip, ok := keys.LockOf(p.Key); ok {
			state.locks[vip] = holders[p.Session]
		}
		if member, ok := keys.MemberOf(p.Key); ok {
			state.members[member] = true
		}
	}
	return state, nil
}
