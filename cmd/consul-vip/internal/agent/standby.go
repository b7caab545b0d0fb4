package agent

import (
	"context"
	"time"

	"github.com/consul-vip/consul-vip/lease"
)

// locks contends for locks: *lease.Keeper. Update reports whether the lock was
// known, that is held or contended for.
type locks interface {
	Hold(ctx context.Context, lock lease.Lock, fn func(context.Context, *lease.Held) error) error
	Update(lock lease.Lock) bool
}

// awaitCarrier waits until the link is up: a node without a link could not serve the
// address. It returns false if ctx ends first.
func (v *vip) awaitCarrier(ctx context.Context) bool {
	state, changed := v.link.state.Get()
	if !state.up {
		v.log.Warn("waiting for the link to come up", "interface", v.link.name)
	}
	for ; !state.up; state, changed = v.link.state.Get() {
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// contend contends for the lock and serves the address while it is held.
func (v *vip) contend(ctx context.Context, handover handover) error {
	// Set before lock reads the configuration, so that a change that lock has missed
	// finds it set.
	v.contending.Store(true)
	defer v.contending.Store(false)
	return v.locks.Hold(ctx, v.lock(), func(ctx context.Context, held *lease.Held) error {
		return v.serve(ctx, held.Previous, held, handover)
	})
}

// lock describes the lock to contend for, as configuration and link are now.
func (v *vip) lock() lease.Lock {
	cfg := v.cfg()
	return lease.Lock{
		Name:         cfg.Addr().String(),
		Priority:     cfg.Priority,
		PreemptDelay: cfg.PreemptDelay,
		Owner:        v.owner.on(v.link).encode(),
		Logger:       v.log.Named("lease"),
	}
}

// renew brings the configuration and the link's MAC to the lock, in any state of
// the VIP. Only the loop calls it.
func (v *vip) renew() {
	// If the lock is contended for, but not known yet, Hold is being called at this
	// moment, perhaps with the previous configuration.
	for !v.locks.Update(v.lock()) && v.contending.Load() {
		time.Sleep(time.Millisecond)
	}
}
