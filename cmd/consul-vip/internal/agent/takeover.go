package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

const (
	// readyTries is how often the successor sends ready before it probes: a frame may
	// get lost.
	readyTries = 3
	// releasedTimeout is how long released may take: the owner to send it, and the
	// successor to receive it after each ready.
	releasedTimeout = 50 * time.Millisecond

	// unknownTTL is how long a previous owner may keep answering if its record does
	// not tell its session TTL.
	unknownTTL = 30 * time.Second

	// verifyTimeout bounds how long a request to Consul keeps the VIP from handling
	// events.
	verifyTimeout = time.Second
	// verifyPause is the time between two such requests.
	verifyPause = 200 * time.Millisecond
)

var (
	// errHoldEnded ends a takeover without being a failure of it.
	errHoldEnded = errors.New("the hold has ended")

	errPaused   = fmt.Errorf("%w: the process was paused while it bound the address", lease.ErrSessionLost)
	errDeadline = fmt.Errorf("%w: hold deadline reached", lease.ErrSessionLost)
)

// hold is a lock that is held: *lease.Held. Its clock is the one of Now.
type hold interface {
	Now() time.Duration
	Remaining() time.Duration
	Verify(ctx context.Context) error
}

// newHold is a hold as it begins: *lease.Held.
type newHold interface {
	hold
	Since() time.Duration
	Serving()
}

// takeoverWire is the wire as a takeover uses it: *announcer.Wire.
type takeoverWire interface {
	SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr) error
	Probe(ctx context.Context, p announcer.ProbeConfig) error
}

// kernel binds addresses to interfaces: *netif.Host.
type kernel interface {
	Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error)
}

// bound is an address while it is bound: *netif.Address.
type bound interface {
	Refresh(lifetime time.Duration) (restored bool, err error)
	Taken() error
	Unbind() error
}

// takeOver binds the address after the previous owner has unbound it. It also
// returns the time, on the clock of held, at which the lock was last confirmed to
// be held. The error is errHoldEnded if ctx ends first.
func (v *vip) takeOver(ctx context.Context, previous leasestate.Record, held newHold, handover handover) (_ bound, confirmed time.Duration, err error) {
	if state, _ := v.link.state.Get(); !state.up {
		return nil, 0, errCarrier
	}
	if err := v.awaitPreviousOwner(ctx, previous, handover); err != nil {
		return nil, 0, err
	}
	v.drainEvents()
	confirmed, err = v.confirmLock(ctx, held)
	if err != nil {
		return nil, 0, err
	}
	address, err := v.bind(ctx, held, confirmed)
	return address, confirmed, markUnclean(err)
}

// previousOwnerFields returns what a record says about the previous owner, as log fields.
func previousOwnerFields(previous leasestate.Record) []any {
	switch previous.State {
	case leasestate.RecordUnknown:
		return nil
	case leasestate.RecordHandover:
		return []any{"transferred_by", previous.From, "record", string(previous.State)}
	}
	return []any{"previous_owner", previous.Node, "record", string(previous.State)}
}

// awaitPreviousOwner returns when the previous owner's kernel has removed the
// address. A record that says so was written after that. In a handover the owner
// sends released. Any other record proves nothing, so the answer comes from probes.
// It returns nil if ctx ends first.
func (v *vip) awaitPreviousOwner(ctx context.Context, previous leasestate.Record, handover handover) error {
	mac, _ := net.ParseMAC(DecodeOwner(previous.Owner).MAC) // nil: all frames are broadcast
	switch {
	case previous.Stopped():
		return nil
	case previous.State == leasestate.RecordHandover:
		if v.awaitReleased(ctx, mac, handover) {
			return nil
		}
		v.log.Warn("no release from the previous owner, probing", "from", previous.From)
	}
	ttl := previous.OwnerTTL(unknownTTL)
	if v.cfg().Takeover == config.TakeoverStrict {
		// The owner may still serve in another part of a split network, where probes
		// do not reach it.
		v.log.Info("waiting for the previous owner's TTL", "for", ttl.String())
		wait(ctx, ttl)
	}
	return v.probe(ctx, mac, ttl)
}

// awaitReleased sends ready and reports whether owner has answered with released.
func (v *vip) awaitReleased(ctx context.Context, owner net.HardwareAddr, handover handover) bool {
	for range readyTries {
		if err := v.link.wire.SendReady(ctx, v.cfg().Addr(), owner); err != nil && ctx.Err() == nil {
			v.log.Warn("could not send ready", "error", err)
		}
		if handover.AwaitReleased(ctx, owner, releasedTimeout) {
			return true
		}
	}
	return false
}

// probe returns nil when no station answers for the address any more, or when ctx
// ends. A station that still answers after ttl is a conflict.
func (v *vip) probe(ctx context.Context, previous net.HardwareAddr, ttl time.Duration) error {
	began := time.Now()
	err := v.link.wire.Probe(ctx, announcer.ProbeConfig{Addr: v.cfg().Addr(), Target: previous, Timeout: ttl})
	probedFor := time.Since(began).Round(time.Millisecond).String()
	var inUse *announcer.InUseError
	switch {
	case ctx.Err() != nil:
		return nil // Hold knows why
	case errors.As(err, &inUse):
		v.log.Error("address conflict: another station keeps answering", "mac", inUse.MAC.String(), "probed_for", probedFor)
		return &ConflictError{Addr: v.cfg().Addr(), MAC: inUse.MAC, Quit: v.cfg().OnConflict == config.ConflictQuit}
	case errors.Is(err, announcer.ErrNotSent):
		return fmt.Errorf("%w: %w", errCarrier, err)
	case err != nil:
		return err
	}
	v.log.Info("no station answers for the address", "probed_for", probedFor)
	return nil
}

// drainEvents drops the events of the time before the address is bound.
func (v *vip) drainEvents() {
	v.missing.Clear()
	v.taken.Clear()
}

// confirmLock returns when, on the clock of held, the lock was last known to be held,
// which is at most longestGap ago. After a pause, or a long wait for the previous
// owner, it first verifies the lock: in a pause the check may have run out, and
// another node may own the address before the watch reports it. If ctx ends, the time
// may be older.
func (v *vip) confirmLock(ctx context.Context, held newHold) (confirmed time.Duration, err error) {
	confirmed = held.Since()
	for held.Now()-confirmed > longestGap && ctx.Err() == nil {
		asked := held.Now()
		err := verify(ctx, held)
		switch {
		case ctx.Err() != nil: // Hold knows why
		case errors.Is(err, lease.ErrLockLost):
			return 0, err
		case err == nil:
			confirmed = asked
		default:
			v.log.Warn("not binding the address yet: Consul does not answer", "error", err)
			wait(ctx, verifyPause)
		}
	}
	return confirmed, nil
}

// verify asks Consul's leader whether the lock is still held.
func verify(ctx context.Context, held hold) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	return held.Verify(ctx)
}

// bind binds the address. It checks the hold deadline before and after, and that
// the process was not paused since the lock was confirmed; an address that was bound
// too late it unbinds.
func (v *vip) bind(ctx context.Context, held hold, confirmed time.Duration) (bound, error) {
	lifetime := kernelLifetime(v.cfg(), held)
	switch {
	case ctx.Err() != nil:
		return nil, errHoldEnded
	case lifetime < time.Second:
		return nil, errDeadline
	}
	address, err := v.kernel.Bind(v.link.index, v.cfg().Prefix, lifetime)
	switch {
	case err != nil:
		return nil, err
	case held.Remaining() <= 0:
		return nil, errors.Join(errDeadline, address.Unbind())
	case held.Now()-confirmed > longestGap:
		return nil, errors.Join(errPaused, address.Unbind())
	}
	return address, nil
}

// kernelLifetime is the time, in whole seconds, after which the kernel removes the
// address if this process does not refresh it. It ends before the hold deadline.
func kernelLifetime(cfg *config.VIP, held hold) time.Duration {
	return min(cfg.DeadMan, held.Remaining()).Truncate(time.Second)
}

// markUnclean adds lease.ErrUnclean to an error that says that another program of
// this host has bound the address: this host continues to answer for it.
func markUnclean(err error) error {
	if errors.Is(err, netif.ErrForeign) {
		return fmt.Errorf("%w: %w", lease.ErrUnclean, err)
	}
	return err
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
