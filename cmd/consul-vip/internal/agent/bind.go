package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// longestGap is the longest time between two looks at the clock of a process that
// runs normally. An act of the kernel that takes longer is treated like a pause.
const longestGap = lease.LongestGap

// kernel binds addresses to interfaces: *netif.Host. Foreign returns a
// *netif.ForeignError if another program has bound an address that this process has
// not.
type kernel interface {
	Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error)
	Foreign(addr netip.Addr) error
	Own(mac net.HardwareAddr) (bool, error)
}

// lasting is an address whose lifetime can be extended: *netif.Address. Only Refresh
// adds the address if it is missing.
type lasting interface {
	Refresh(lifetime time.Duration) (restored bool, err error)
	Extend(lifetime time.Duration) (extended bool, err error)
}

// bound is an address while it is bound: *netif.Address.
type bound interface {
	lasting
	Taken() error
	Unbind() error
}

// binding is an address in the kernel, which removes it at until, on the clock of
// the hold.
type binding struct {
	address bound
	until   time.Duration
}

// bind binds the address while the lock is certain. Addresses are bound one after
// the other. Only then the lock is confirmed, so that the wait does not matter. If
// the kernel takes too long, the address is removed and all is tried again; the
// kernel may take twice as long then, in case it is always slow.
func (v *vip) bind(ctx context.Context, t tenure) (b binding, o outcome) {
	if !v.turns.startBinding(ctx) {
		return binding{}, outcome{how: holdEnded}
	}
	defer v.turns.endBinding()
	for limit := longestGap; b.address == nil && o.how == goesOn; limit *= 2 {
		if left := kernelLifetime(v.cfg(), t); left < time.Second {
			wait(ctx, max(t.Remaining(), refreshInterval)) // the deadline moves, or ends the hold
		}
		if t.Confirm(ctx, t.Now()-longestGap) != nil || !v.awaitBindTurn(ctx, func() { b, o = v.bindOnce(ctx, t, limit) }) {
			return binding{}, outcome{how: holdEnded}
		}
	}
	return b, o
}

// awaitBindTurn runs act when it is its turn. It returns false if ctx ends first.
func (v *vip) awaitBindTurn(ctx context.Context, act func()) bool {
	turn := v.turns.bind()
	defer turn.done()
	select {
	case <-turn.come:
		act()
		return true
	case <-ctx.Done():
		return false
	}
}

// bindOnce looks at the clock and the lock before and after it binds the address. It
// returns no binding if that was not in time, or if a host that counted as dead is
// heard again.
func (v *vip) bindOnce(ctx context.Context, t tenure, limit time.Duration) (binding, outcome) {
	began, lifetime := t.Now(), kernelLifetime(v.cfg(), t)
	if !t.Certain() || lifetime < time.Second || ctx.Err() != nil {
		return binding{}, outcome{}
	}
	if t.victim != nil && t.victim.sure && !v.stillDead(t) {
		return binding{}, outcome{how: returned}
	}
	v.drainEvents()
	address, err := v.kernel.Bind(v.link.index, v.cfg().Prefix, lifetime)
	took := t.Now() - began
	switch {
	case errors.Is(err, netif.ErrForeign):
		o := v.boundByOther(err)
		v.recheckForeign()
		return binding{}, o
	case err != nil:
		return binding{}, v.refused(err)
	case took <= limit && t.Certain() && t.Remaining() > 0 && ctx.Err() == nil:
		return binding{address, began + lifetime}, outcome{}
	}
	v.log.Warn("unbinding the address, the kernel took too long", "took", took.String())
	if err := address.Unbind(); err != nil {
		return binding{}, outcome{how: failed, err: err, unclean: true}
	}
	return binding{}, outcome{}
}

// refused is the outcome when the kernel did not bind the address, or not extend it.
func (v *vip) refused(err error) outcome {
	switch {
	case errors.Is(err, netif.ErrForeign):
		return v.boundByOther(err)
	case errors.Is(err, netif.ErrIPv6Disabled):
		return v.leaveToOthers("the interface takes no IPv6 address", err)
	}
	return outcome{how: failed, err: err}
}

// drainEvents drops the events of the time before the address is bound.
func (v *vip) drainEvents() {
	v.missing.Clear()
	v.taken.Clear()
}

// boundByOther is the outcome when another program of this host has bound the
// address: this host continues to answer for it, and is not eligible until that
// program has removed it.
func (v *vip) boundByOther(err error) outcome {
	v.log.Error("another program of this host has bound the address", "error", err)
	v.fitness.setForeign(err)
	return outcome{how: foreign, err: err, unclean: true}
}

// recheckForeign makes this host eligible again if no other program has the address
// any more. The loop does so when an address was removed; this is for one that was
// removed before the loop knew that it matters.
func (v *vip) recheckForeign() {
	if err := v.kernel.Foreign(v.cfg().Addr()); err == nil || errors.Is(err, netif.ErrForeign) {
		v.fitness.setForeign(err)
	}
}

// kernelLifetime is the time, in whole seconds, after which the kernel removes the
// address if this process does not refresh it. It ends before the hold deadline.
func kernelLifetime(cfg *config.VIP, held deadline) time.Duration {
	return min(cfg.DeadMan, held.Remaining()).Truncate(time.Second)
}
