package main

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// bound is how long a takeover is waited for.
	bound = 40 * time.Second
	// longBound is that where the address stays behind, and another host takes it
	// only after a session's TTL and a lock-delay.
	longBound = 60 * time.Second

	// aMoment is how long after the failure a repetition ends at the earliest.
	aMoment = 2 * time.Second
	// lastSign is that where the address may stay behind: more than consul-vip's
	// kernel needs to remove it, five and a half seconds.
	lastSign = 6 * time.Second
)

// undo makes undone what a failure did to the host; daemons are not its business.
type undo func(ctx context.Context) error

// scenario is a failure, always of the host that owns the address.
type scenario struct {
	name  string
	watch time.Duration // aMoment or lastSign

	// Only of interest for peers that need Consul.
	ofConsul bool
	// It is the host that fails, whatever runs there.
	ofHost bool
	// The host is gone with all it had bound.
	hostGone bool
	// The owner may well stay the owner: no takeover is waited for.
	mayStay bool

	harm func(ctx context.Context, t *trial) (undo, error)
}

// scenarios returns all of them in the order of the tables.
func scenarios() []scenario {
	return []scenario{
		{name: "planned stop", watch: aMoment, harm: stop},
		{name: "SIGKILL", watch: lastSign, harm: kill},
		{name: "SIGSTOP", watch: lastSign, harm: freeze},
		{name: "host death", watch: aMoment, ofHost: true, hostGone: true, harm: die},
		{name: "cut-off from Consul", watch: lastSign, ofHost: true, ofConsul: true, harm: cutOff},
		{name: "carrier loss", watch: lastSign, ofHost: true, harm: unplug},
		{name: "foreign ARP", watch: aMoment, mayStay: true, harm: forge},
	}
}

// boundOf returns how long a takeover by a peer is waited for.
func (s scenario) boundOf(p peer) time.Duration {
	if s.takesLong(p) {
		return longBound
	}
	return bound
}

// takesLong says if the peer takes over only most of a minute later.
func (s scenario) takesLong(p peer) bool {
	return !s.ofHost && s.watch == lastSign && p.oldKeepsAnswering()
}

func stop(_ context.Context, t *trial) (undo, error) {
	return nil, t.strikeDaemons(func(_ *entry, d *daemon) error { return d.current().Signal(syscall.SIGTERM) })
}

func kill(_ context.Context, t *trial) (undo, error) {
	return nil, t.strikeDaemons(func(e *entry, d *daemon) error {
		if e.peer.killsAll() {
			return d.signalAll(syscall.SIGKILL)
		}
		return d.current().Signal(syscall.SIGKILL)
	})
}

func freeze(_ context.Context, t *trial) (undo, error) {
	return nil, t.strikeDaemons(func(_ *entry, d *daemon) error { return d.signalAll(syscall.SIGSTOP) })
}

// die takes out the cable first: what the host would have said while its
// processes are killed one after the other must not be heard.
func die(ctx context.Context, t *trial) (undo, error) {
	plug, err := unplug(ctx, t)
	if err != nil {
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
	server := t.cluster.Of(t.owner)
	errs = append(errs, server.Kill())
	return func(ctx context.Context) error {
		return errors.Join(plug(ctx), server.Start())
	}, errors.Join(errs...)
}

func unplug(_ context.Context, t *trial) (undo, error) {
	return func(context.Context) error { return t.owner.Plug("eth0") },
		t.strike(func() error { return t.owner.Unplug("eth0") })
}

func cutOff(ctx context.Context, t *trial) (undo, error) {
	return t.owner.Heal, t.strike(func() error { return t.owner.CutOff(ctx) })
}

func forge(_ context.Context, t *trial) (undo, error) {
	foreign := net.HardwareAddr{2, 0, 0, 0, 0xff, 1}
	return nil, t.strike(func() error {
		var errs []error
		for _, e := range t.entries {
			frame := lab.Gratuitous(lab.ARPRequest, foreign, e.addr).Frame()
			errs = append(errs, t.Observer.Send("eth0", frame))
		}
		return errors.Join(errs...)
	})
}
