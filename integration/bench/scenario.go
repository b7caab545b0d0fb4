package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// bound is how long to wait for a takeover.
	bound = 40 * time.Second
	// longBound is the same if the old host keeps the address, and another host takes
	// it only after a session's TTL and a lock-delay.
	longBound = 60 * time.Second

	// shortWatch is how long a repetition lasts after the failure at least.
	shortWatch = 2 * time.Second
	// longWatch is the same if the old host may keep the address: longer than
	// consul-vip's kernel takes to remove it, which is five and a half seconds.
	longWatch = 6 * time.Second
)

// Names of scenarios that are mentioned elsewhere.
const (
	plannedStop    = "planned stop"
	hostDeath      = "host death"
	leaderDeath    = "host death, Consul's leader"
	carrierLoss    = "carrier loss"
	foreignClaim   = "foreign claim"
	serviceDies    = "service dies"
	manyKilled     = "100 addresses, SIGKILL"
	manyDead       = "100 addresses, host death"
	webPlannedStop = "web, planned stop"
	webKilled      = "web, SIGKILL"
)

// undo reverses what a failure did to the host. It does not start daemons.
type undo func(ctx context.Context) error

// role says which host is to own the address, where each host has a Consul server.
type role int

const (
	anyHost role = iota
	notLeader
	leader
)

// scenario is a failure of the host that owns the address.
type scenario struct {
	name  string
	watch time.Duration // shortWatch or longWatch
	role  role

	// ofConsul: only peers that need Consul are affected.
	ofConsul bool
	// ofHost: the host fails, and so everything that runs on it.
	ofHost bool
	// hostGone: the host has nothing bound any more.
	hostGone bool
	// mayStay: the owner may remain the owner, so there may be no takeover.
	mayStay bool
	// many: there are a hundred addresses. Only consul-vip is measured.
	many bool
	// service: an address requires a check of a service. Only consul-vip is measured.
	service bool
	// web: there is a web server behind the address, and a load on it.
	web bool

	// cause makes the failure happen.
	cause func(ctx context.Context, t *trial) (undo, error)
}

// scenarios returns those of a world, in the order of the tables.
func scenarios(w lab.World) []scenario {
	return slices.DeleteFunc([]scenario{
		{name: plannedStop, watch: shortWatch, cause: stop},
		{name: "SIGKILL", watch: longWatch, cause: kill},
		{name: "SIGSTOP", watch: longWatch, cause: freeze},
		{name: "session destroyed", watch: shortWatch, ofConsul: true, mayStay: true, cause: destroySession},
		{name: "key deleted", watch: shortWatch, ofConsul: true, mayStay: true, cause: deleteKey},
		{name: "cut-off from Consul", watch: longWatch, ofHost: true, ofConsul: true, cause: cutOff},
		{name: hostDeath, watch: shortWatch, ofHost: true, hostGone: true, role: notLeader, cause: killHost},
		{name: leaderDeath, watch: shortWatch, ofHost: true, ofConsul: true, hostGone: true, role: leader, cause: killHost},
		{name: carrierLoss, watch: longWatch, ofHost: true, role: notLeader, cause: unplug},
		{name: foreignClaim, watch: shortWatch, mayStay: true, cause: claim},
		{name: serviceDies, watch: shortWatch, service: true, cause: killService},
		{name: manyKilled, watch: longWatch, many: true, cause: kill},
		{name: manyDead, watch: shortWatch, many: true, ofHost: true, hostGone: true, role: notLeader, cause: killHost},
		{name: webPlannedStop, watch: shortWatch, web: true, cause: stop},
		{name: webKilled, watch: longWatch, web: true, cause: kill},
	}, func(sc scenario) bool { return sc.role == leader && w != lab.ServersOnHosts })
}

// applies reports whether the failure is measured with a peer.
func (s scenario) applies(p peer) bool {
	_, isOurs := p.(consulVIP)
	switch {
	case p == quickCheck:
		return s.ofHost && (s.hostGone || !s.ofConsul)
	case p == overIPv6:
		return !s.web
	case isOurs:
		return true
	}
	return !s.many && !s.service && (p.needsConsul() || !s.ofConsul)
}

// boundOf returns how long to wait for a takeover by a peer.
func (s scenario) boundOf(p peer) time.Duration {
	if s.takesLong(p) {
		return longBound
	}
	return bound
}

// takesLong reports whether the peer takes over only most of a minute later.
func (s scenario) takesLong(p peer) bool {
	return !s.ofHost && s.watch == longWatch && p.oldKeepsAnswering()
}

// sideBySide reports whether all repetitions with a peer run at the same time: the
// failures hit each of them alone, and the takeovers take seconds.
func (s scenario) sideBySide(p peer) bool {
	slow := s.takesLong(p) || s.ofConsul && p.oldKeepsAnswering()
	return slow && !s.ofHost && !s.web
}

func stop(_ context.Context, t *trial) (undo, error) {
	return nil, t.failDaemons(func(_ *entry, d *daemon) error { return d.current().Signal(syscall.SIGTERM) })
}

func kill(_ context.Context, t *trial) (undo, error) {
	return nil, t.failDaemons(func(e *entry, d *daemon) error {
		if e.peer.killsAll() {
			return d.signalAll(syscall.SIGKILL)
		}
		return d.current().Signal(syscall.SIGKILL)
	})
}

func freeze(_ context.Context, t *trial) (undo, error) {
	return nil, t.failDaemons(func(_ *entry, d *daemon) error { return d.signalAll(syscall.SIGSTOP) })
}

// killHost takes the cables out first: no other host may hear what this one sends while
// its processes are killed one after the other.
func killHost(_ context.Context, t *trial) (undo, error) {
	plug := func(context.Context) error { return t.cables(t.owner.Plug) }
	if err := t.fail(func() error { return t.cables(t.owner.Unplug) }); err != nil {
		return plug, err
	}
	var errs []error
	for _, e := range t.entries {
		e.daemons[0].retire()
		errs = append(errs, e.daemons[0].signalAll(syscall.SIGKILL))
	}
	if !t.needsConsul() {
		return plug, errors.Join(errs...)
	}
	agent := t.Cluster.Of(t.owner)
	errs = append(errs, agent.Kill())
	return func(ctx context.Context) error {
		return errors.Join(plug(ctx), agent.Start())
	}, errors.Join(errs...)
}

// cables does the same to the cable of the addresses and to Consul's, if that is
// another.
func (t *trial) cables(do func(ifname string) error) error {
	err := do("eth0")
	if consul := t.owner.ConsulInterface; consul != "eth0" {
		err = errors.Join(err, do(consul))
	}
	return err
}

func unplug(_ context.Context, t *trial) (undo, error) {
	return func(context.Context) error { return t.owner.Plug("eth0") },
		t.fail(func() error { return t.owner.Unplug("eth0") })
}

func cutOff(ctx context.Context, t *trial) (undo, error) {
	return t.owner.Heal, t.fail(func() error { return t.owner.CutOff(ctx) })
}

// destroySession destroys the session that holds the lock, as an operator may do.
func destroySession(_ context.Context, t *trial) (undo, error) {
	api := t.Cluster.Servers[0].API
	var sessions []string
	for _, e := range t.entries {
		pair, _, err := api.KV().Get(e.peer.lockKey(e), nil)
		if err != nil {
			return nil, err
		}
		if pair == nil || pair.Session == "" {
			return nil, errors.New("no session holds the lock")
		}
		sessions = append(sessions, pair.Session)
	}
	return nil, t.fail(func() error {
		var errs []error
		for _, s := range sessions {
			_, err := api.Session().Destroy(s, nil)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// deleteKey deletes the key of the lock, as an operator may do.
func deleteKey(_ context.Context, t *trial) (undo, error) {
	return nil, t.fail(func() error {
		var errs []error
		for _, e := range t.entries {
			_, err := t.Cluster.Servers[0].API.KV().Delete(e.peer.lockKey(e), nil)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// alive is the file that shows that the service of a host lives.
func alive(h *lab.Host) string { return filepath.Join(h.Dir, "alive") }

// killService makes the check of the service fail. No process of the daemon is touched.
func killService(_ context.Context, t *trial) (undo, error) {
	return nil, t.fail(func() error { return os.Remove(alive(t.owner)) })
}

// claim sends a claim of the address by a stranger.
func claim(_ context.Context, t *trial) (undo, error) {
	return nil, t.fail(func() error {
		var errs []error
		for _, e := range t.entries {
			errs = append(errs, t.Observer.Send("eth0", lab.Claims(lab.Stranger(), e.addr)[0]))
		}
		return errors.Join(errs...)
	})
}
