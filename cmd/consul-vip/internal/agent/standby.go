package agent

import (
	"context"
	"time"

	"github.com/consul-vip/consul-vip/lease"
)

// locks holds a lock while a function runs, and takes up what changes about it
// meanwhile; whether it did, Update says.
type locks interface {
	Hold(ctx context.Context, lock lease.Lock, fn func(context.Context, *lease.Held) error) error
	Update(lock lease.Lock) bool
}

// awaitCarrier returns false when ctx ends first: a node without a link has
// nothing to contend with.
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

// contend contends for the lock and serves while it is held.
func (v *vip) contend(ctx context.Context, handover handover) error {
	v.contending.Store(true) // before the configuration is read
	defer v.contending.Store(false)
	return v.locks.Hold(ctx, v.lock(), func(ctx context.Context, held *lease.Held) error {
		return v.serve(ctx, held.Predecessor, held, handover)
	})
}

// lock is what this VIP contends for, and with which face.
func (v *vip) lock() lease.Lock {
	state, _ := v.link.state.Get()
	owner := v.owner
	owner.Interface, owner.MAC = v.link.name, state.mac.String()
	cfg := v.cfg()
	return lease.Lock{
		Name:         cfg.Addr().String(),
		Priority:     cfg.Priority,
		PreemptDelay: cfg.PreemptDelay,
		Owner:        owner,
	}
}

// renew has what is contended for be as the configuration and the link say now,
// whatever the VIP is doing. One goroutine may call it at a time.
func (v *vip) renew() {
	// A lock that is contended for, but not known, is being asked for at this
	// moment, perhaps as it was before.
	for !v.locks.Update(v.lock()) && v.contending.Load() {
		time.Sleep(time.Millisecond)
	}
}
