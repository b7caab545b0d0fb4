package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// requestTimeout is how long one Consul server may take to answer.
const requestTimeout = 2 * time.Second

// reportViolation records that an invariant did not hold.
type reportViolation func(invariant, format string, args ...any)

// chaosLab is the lab with the instances of consul-vip and the faults that their hosts
// can have.
type chaosLab struct {
	*lab.Lab
	nodes   []*node
	journal *journal
}

// node is a host with the instance that runs on it and the harms that can be done to it.
type node struct {
	*lab.Host
	server   *lab.ConsulAgent
	instance *supervisor

	halted, consulDown, unplugged, cut *refcount
}

// newChaosLab starts the lab. The instances do not run yet.
func newChaosLab(ctx context.Context, p lab.Programs, j *journal, violated reportViolation) (*chaosLab, error) {
	started, err := lab.Start(ctx, lab.Config{Programs: p, Observe: allVIPs()})
	if err != nil {
		return nil, err
	}
	l := &chaosLab{Lab: started, journal: j}
	for _, s := range l.Cluster.Servers {
		n, err := newNode(s, p, j, violated)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.nodes = append(l.nodes, n)
	}
	return l, nil
}

func newNode(s *lab.ConsulAgent, p lab.Programs, j *journal, violated reportViolation) (*node, error) {
	h := s.Host
	n := &node{Host: h, server: s}
	file, err := n.configure(none)
	if err != nil {
		return nil, err
	}
	n.instance = newSupervisor(h, p.AgentCommand(file), j, violated)
	n.halted = &refcount{do: n.instance.halt, undo: n.instance.resume}
	n.consulDown = &refcount{do: s.Kill, undo: s.Start}
	n.unplugged = &refcount{
		do:   func() error { return h.Unplug("eth0") },
		undo: func() error { return h.Plug("eth0") },
	}
	n.cut = &refcount{
		do:   func() error { return h.CutOff(context.Background()) },
		undo: func() error { return h.Heal(context.Background()) },
	}
	return n, nil
}

// configure writes the configuration, without one of the addresses. The instance reads
// it at its next start or reload.
func (n *node) configure(without int) (file string, err error) {
	return n.WriteFile("consul-vip.hcl", []byte(configuration(without)))
}

// request calls f with the API of one Consul server after the other until one has
// answered. It begins with the servers that no fault holds.
func (l *chaosLab) request(ctx context.Context, f func(context.Context, *api.Client) error) error {
	var well, harmed []*node
	for _, n := range l.nodes {
		if n.consulDown.held() || n.unplugged.held() || n.cut.held() {
			harmed = append(harmed, n)
		} else {
			well = append(well, n)
		}
	}
	var errs []error
	for _, n := range append(well, harmed...) {
		once, cancel := context.WithTimeout(ctx, requestTimeout)
		err := f(once, n.server.API)
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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
