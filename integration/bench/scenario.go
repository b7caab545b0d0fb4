package main

import (
	"context"
	"errors"
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

// undo reverses what a failure did to the host. It does not start daemons.
type undo func(ctx context.Context) error

// scenario is a failure of the host that owns the address.
type scenario struct {
	name  string
	watch time.Duration // shortWatch or longWatch

	// ofConsul: only peers that need Consul are affected.
	ofConsul bool
	// ofHost: the host fails, and so everything that runs on it.
	ofHost bool
	// hostGone: the host has nothing bound any more.
	hostGone bool
	// mayStay: the owner may remain the owner, so there may be no takeover.
	mayStay bool

	// cause makes the failure happen.
	cause func(ctx context.Context, t *trial) (undo, error)
}

// scenarios returns all of them in the order of the tables.
func scenarios() []scenario {
	return []scenario{
		{name: "planned stop", watch: shortWatch, cause: stop},
		{name: "SIGKILL", watch: longWatch, cause: kill},
		{name: "SIGSTOP", watch: longWatch, cause: freeze},
		{name: "host death", watch: shortWatch, ofHost: true, hostGone: true, cause: killHost},
		{name: "cut-off from Consul", watch: longWatch, ofHost: true, ofConsul: true, cause: cutOff},
		{name: "carrier loss", watch: longWatch, ofHost: true, cause: unplug},
		{name: "foreign ARP", watch: shortWatch, mayStay: true, cause: claim},
	}
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

// claim sends a claim of the address by a stranger.
func claim(_ context.Context, t *trial) (undo, error) {
	return nil, t.fail(func() error {
		var errs []error
		for _, e := range t.entries {
			frame := lab.Gratuitous(lab.ARPRequest, lab.Stranger(), e.addr).Frame()
			errs = append(errs, t.Observer.Send("eth0", frame))
		}
		return errors.Join(errs...)
	})
}
