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
	"github.com/consul-vip/consul-vip/netif"
)

// In a handover the successor calls for the address as soon as it sees that it has
// the lock. Only then does the owner unbind it and say so.
const (
	// readyTimeout is how long the owner goes on serving for want of a call, while
	// the successor may be busy with many.
	readyTimeout = 500 * time.Millisecond
	// releasedTimeout is how long the owner's word may take after a call.
	releasedTimeout = 50 * time.Millisecond
	// calls is how many frames may get lost on the way before the wire is asked.
	readyTries = 3
)

// unknownTTL is how long an unknown last owner may go on answering.
const unknownTTL = 30 * time.Second

// hold is a lock while it is held: lease.Held.
type hold interface {
	deadline
	Verify(ctx context.Context) error
	Serving()
}

// deadline is until when it may be believed in.
type deadline interface {
	Remaining() time.Duration
	Since() time.Duration
	Now() time.Duration
}

// kernel binds addresses to interfaces: netif.Host.
type kernel interface {
	Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error)
}

// bound is an address while it is bound: netif.Address.
type bound interface {
	Refresh(lifetime time.Duration) (restored bool, err error)
	Taken() error
	Unbind() error
}

// previousOwnerFields is the last owner as the log shows it.
func previousOwnerFields(last lease.Record) []any {
	switch last.State {
	case lease.StateUnknown:
		return nil
	case lease.StateHandover:
		return []any{"handed_over_by", last.From, "record", string(last.State)}
	}
	return []any{"last_owner", last.Node, "record", string(last.State)}
}

// awaitPreviousOwner returns when the last owner's kernel has let go of the
// address. A record that says so was written after that; one that hands the lock
// over is followed by a word on the wire; anything else proves nothing.
func (v *vip) awaitPreviousOwner(ctx context.Context, last lease.Record, handover handover) error {
	mac, _ := net.ParseMAC(last.MAC) // nil asks everybody
	switch {
	case last.LetGo():
		return nil
	case last.State == lease.StateHandover:
		if v.awaitReleased(ctx, mac, handover) {
			return nil
		}
		v.log.Warn("the last owner did not say that it let go, asking the wire", "from", last.From)
	}
	patience := last.OwnerTTL(unknownTTL)
	if v.cfg().Takeover == config.TakeoverStrict {
		v.waitForTTL(ctx, patience)
	}
	return v.probe(ctx, mac, patience)
}

// awaitReleased calls for the address and reports whether its owner has let go of it.
func (v *vip) awaitReleased(ctx context.Context, owner net.HardwareAddr, handover handover) bool {
	for range readyTries {
		if err := v.handing.SendReady(ctx, v.cfg().Addr(), owner); err != nil && ctx.Err() == nil {
			v.log.Warn("could not call for the address", "error", err)
		}
		if handover.AwaitReleased(ctx, owner, releasedTimeout) {
			return true
		}
	}
	return false
}

// waitForTTL leaves the last owner its whole TTL, in case it serves on the far
// side of a split network where it cannot be heard.
func (v *vip) waitForTTL(ctx context.Context, ttl time.Duration) {
	v.log.Info("waiting out the last owner", "for", ttl.String())
	wait(ctx, ttl)
}

// probe returns once nobody answers for the address.
func (v *vip) probe(ctx context.Context, last net.HardwareAddr, patience time.Duration) error {
	began := time.Now()
	err := v.wire.Probe(ctx, announcer.ProbeConfig{Addr: v.cfg().Addr(), Target: last, Timeout: patience})
	var answered *announcer.InUseError
	switch {
	case ctx.Err() != nil:
		return nil // Hold knows why
	case errors.As(err, &answered):
		v.log.Error("address conflict: a stranger answers for it", "mac", answered.MAC.String(), "asked_for", time.Since(began).Round(time.Millisecond).String())
		return &ConflictError{Addr: v.cfg().Addr(), MAC: answered.MAC, Quit: v.cfg().OnConflict == config.ConflictQuit}
	case errors.Is(err, announcer.ErrNotSent):
		return fmt.Errorf("%w: %w", errCarrier, err)
	case err != nil:
		return err
	}
	v.log.Info("nobody answers for the address", "asked_for", time.Since(began).Round(time.Millisecond).String())
	return nil
}

// confirmLock returns when the lock was last known to be ours, which was a moment
// ago. If it was not, because of a pause or because the last owner took its
// time, Consul is asked first: the check may have run out in a pause, and the
// address be another's while the news of it waits for us.
func (v *vip) confirmLock(ctx context.Context, held hold) (confirmed time.Duration, err error) {
	confirmed = held.Since()
	for held.Now()-confirmed > longestGap && ctx.Err() == nil {
		asked := held.Now()
		err := v.verify(ctx, held)
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

// verify asks Consul whether the lock is still ours.
func (v *vip) verify(ctx context.Context, held hold) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	return held.Verify(ctx)
}

// drainEvents drops what the kernel said of the address before it was bound.
func (v *vip) drainEvents() {
	v.missing.Clear()
	v.taken.Clear()
}

// bind binds the address, inside the hold deadline before and after, and with
// no pause since it was sure that the lock is ours. It returns nil without an
// error when the hold has ended.
func (v *vip) bind(ctx context.Context, held hold, confirmed time.Duration) (bound, error) {
	lifetime := v.lifetime(held)
	switch {
	case ctx.Err() != nil:
		return nil, nil
	case lifetime < time.Second:
		return nil, errDeadline
	}
	address, err := v.kernel.Bind(v.link.index, v.cfg().Prefix, lifetime)
	if err != nil {
		return nil, err
	}
	if held.Remaining() <= 0 {
		return nil, errors.Join(errDeadline, address.Unbind())
	}
	if held.Now()-confirmed > longestGap {
		return nil, errors.Join(errPaused, address.Unbind())
	}
	return address, nil
}

// lifetime is what the kernel is told: it removes the address by itself unless
// this process goes on living, inside the hold deadline.
func (v *vip) lifetime(held hold) time.Duration {
	return min(v.cfg().DeadMan, held.Remaining()).Truncate(time.Second)
}

// markUnclean marks err if it says that this host goes on answering for the address.
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
