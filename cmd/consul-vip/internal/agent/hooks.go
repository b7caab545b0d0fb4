package agent

import (
	"context"
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/hook"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// hooks runs the programs of the operator: *hook.Runner.
type hooks interface {
	Post(e hook.Event)
	Await(ctx context.Context, e hook.Event)
	Timeout(kind config.HookEvent, addr netip.Addr) time.Duration
}

// hookRunner runs hooks for all addresses: *hook.Runner.
type hookRunner interface {
	hooks
	Set(hooks []config.Hook)
	Run(ctx context.Context) error
}

// event is something that happens to the address on this host now.
func (v *vip) event(kind config.HookEvent, reason string) hook.Event {
	e := hook.Event{Kind: kind, Address: v.cfg().Addr(), Node: v.locks.Node(), Reason: reason}
	if v.link != nil {
		e.Interface = v.link.name
	}
	return e
}

// onAcquired runs the hooks for an address that this host serves from now on. One that is
// not bound here is served only once they have succeeded.
func (v *vip) onAcquired(t tenure, reason string) {
	e := v.event(config.HookAcquired, reason)
	e.PreviousNode = t.previousNode()
	if v.link == nil {
		e.Insist, e.Report = true, v.setFailing
	}
	v.hooks.Post(e)
}

// onLeft runs the hooks for an address that this host serves no more.
func (v *vip) onLeft(o outcome, end lease.Kind, reason string) {
	e := v.event(leftBecause(o.how, end), reason)
	if v.link == nil {
		v.setFailing(nil)
		e.Report = func(error) { v.setFailing(nil) } // what failed has ended only now
	}
	v.hooks.Post(e)
}

// leftBecause is the event for a tenure that ended so.
func leftBecause(how how, end lease.Kind) config.HookEvent {
	switch how {
	case conflict, contested:
		return config.HookConflict
	case holdEnded:
		switch end {
		case lease.LockLost, lease.SessionLost, lease.Taken:
			return config.HookLost
		}
		return config.HookReleased
	}
	return config.HookLost
}

// previousNode is the node that had the address before; empty: none, or unknown.
func (t tenure) previousNode() string {
	switch {
	case t.previous.State == leasestate.RecordHandover:
		return t.previous.From
	case t.victim != nil:
		return t.victim.node
	}
	return t.previous.Node
}

// prepare lets the hooks for an address that is about to be given away run while it is
// still served.
func (v *vip) prepare(ctx context.Context, reason error) {
	v.hooks.Await(ctx, v.event(config.HookPreRelease, reason.Error()))
}

// onKept runs the hooks for an address that was prepared to be given away, and stays.
func (v *vip) onKept() {
	v.onAcquired(tenure{}, "it was not given away after all")
}

// setFailing says what does not work although the lock is held; nil: everything works.
func (v *vip) setFailing(err error) {
	v.updating.Lock()
	same := text(v.failing) == text(err)
	v.failing = err
	v.updating.Unlock()
	if !same {
		v.update()
	}
}

// failingNow is what does not work although the lock is held; nil: everything works.
func (v *vip) failingNow() error {
	v.updating.Lock()
	defer v.updating.Unlock()
	return v.failing
}

// require sets why the services that the address requires are not fit, or not known to be,
// and runs the hooks for a change. Only the loop calls it.
func (v *vip) require(unfit, unknown error) {
	v.fitness.require(unfit, unknown)
	kind, reason := config.HookFit, "all checks succeed"
	if unfit != nil {
		kind, reason = config.HookUnfit, unfit.Error()
	}
	switch {
	case len(v.cfg().Require) == 0:
		v.fitnessTold = ""
	case unknown == nil && kind != v.fitnessTold:
		v.fitnessTold = kind
		v.hooks.Post(v.event(kind, reason))
	}
}
