package agent

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
)

// state is the state of a VIP, as the log shows it.
type state string

const (
	stateStandby   state = "standby"   // another node holds the lock, or no node yet
	stateAcquired  state = "acquired"  // this node holds the lock, the address is not bound yet
	stateActive    state = "active"    // the address is bound and announced
	stateReleasing state = "releasing" // the address is unbound, the lock is not released yet
)

// currentState holds the state that a VIP is in and is the value of the field
// "state" in its log lines. hclog formats a field when it writes the line, with
// String in text and MarshalText in JSON, so one logger serves a VIP's whole life.
// It is empty before the first transition and safe for concurrent use.
type currentState struct{ value atomic.Value }

// set returns the state before.
func (c *currentState) set(s state) (before state) {
	before, _ = c.value.Swap(s).(state)
	return before
}

func (c *currentState) get() state {
	s, _ := c.value.Load().(state)
	return s
}

func (c *currentState) String() string { return string(c.get()) }

func (c *currentState) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// handover receives the frames of a handover: *announcer.Handover.
type handover interface {
	AwaitReady(ctx context.Context, n announcer.Nonce, timeout time.Duration) bool
	AwaitReleased(ctx context.Context, owner net.HardwareAddr, n announcer.Nonce, timeout time.Duration) bool
	Close()
}

// shared is what the VIPs of a process share.
type shared struct {
	kernel     kernel
	locks      locks
	hooks      hooks
	turns      *turns
	owner      Owner // the part that all locks share
	sessionTTL time.Duration
	log        hclog.Logger
}

// vip is one floating address on this node.
type vip struct {
	shared // log: each line has the address and the current state

	// Set by newVIP, never changed.
	link    *link // nil: the address is not bound on this host
	fitness *fitness

	// Written by the loop, read by any goroutine: atomic. Prefix and interface never
	// change.
	settings atomic.Pointer[config.VIP]
	dead     atomic.Pointer[dead] // nil: the owner's host answers, or is not watched

	// Written by the goroutine of run, read wherever a line is logged: atomic.
	state   currentState
	present present

	fitnessTold config.HookEvent // the last event of its fitness; owned by the loop

	// Set by the loop, received by the goroutine of run.
	missing latest.Wake // the address may have been removed
	taken   latest.Wake // another program may have bound the address
	heard   latest.Wake // a host that counted as dead is heard again

	updating  sync.Mutex // guards all following fields; held during Set, so that the newest lock wins
	contender contender
	failing   error // what does not work although the lock is held
	closed    bool
}

// newVIP makes this process contend for the lock of an address, until close. An
// address that another program has bound is not eligible from the start.
func newVIP(cfg config.VIP, l *link, bound error, s shared) *vip {
	v := &vip{shared: s, link: l, missing: latest.NewWake(), taken: latest.NewWake(), heard: latest.NewWake()}
	v.fitness = &fitness{changed: v.update, foreign: bound}
	if len(cfg.Require) > 0 {
		v.fitness.unknown = errNotChecked
	}
	v.settings.Store(&cfg)
	v.log = s.log.With("vip", cfg.Addr().String(), "state", &v.state)
	v.contender = s.locks.Contend(v.lock())
	return v
}

// close ends the contention. Call it after run has returned.
func (v *vip) close() {
	v.fitness.close()
	v.updating.Lock()
	defer v.updating.Unlock()
	v.closed = true
	v.contender.Close()
}

// cfg returns the current configuration.
func (v *vip) cfg() *config.VIP { return v.settings.Load() }

// change replaces the configuration by one with the same prefix and interface.
// Only the loop calls it.
func (v *vip) change(cfg config.VIP) {
	before := v.cfg()
	v.settings.Store(&cfg)
	if cfg.Priority != before.Priority || cfg.PreemptDelay != before.PreemptDelay || cfg.WhenNoneFit != before.WhenNoneFit {
		v.update()
	}
}

// enter makes a transition and logs it with its reason.
func (v *vip) enter(s state, reason string, args ...any) {
	from := v.state.set(s)
	v.present.enter(transition{time.Now(), v.cfg().Addr().String(), from, s, reason})
	v.log.Info("state changed", append([]any{"from", string(from), "reason", reason}, args...)...)
}

// run is the life of the address on this node, until ctx ends; then it returns nil.
// An error ends the process.
func (v *vip) run(ctx context.Context) error {
	serve := v.serveUnbound
	if v.link != nil {
		handover := v.link.wire.Handover(v.cfg().Addr())
		defer handover.Close()
		serve = func(ctx context.Context, t tenure) outcome { return v.serve(ctx, t, handover) }
	}
	reason := "started"
	for {
		v.enter(stateStandby, reason)
		var own outcome
		end := v.contender.Hold(ctx, func(ctx context.Context, held *lease.Held) lease.Left {
			own = serve(ctx, v.newTenure(held))
			return own.left()
		})
		if end.Kind == lease.Stopped {
			return nil
		}
		if err := v.exit(end, own); err != nil {
			v.log.Error("exiting because of this address", "reason", err)
			return err
		}
		reason = end.Reason.Error()
	}
}

// serve goes through acquired, active and releasing while the lock is held. When it
// returns, the address is unbound, and only then the lock is released. In a
// handover the lock is transferred first, and a frame tells the successor when the
// address is unbound.
func (v *vip) serve(ctx context.Context, t tenure, handover handover) outcome {
	defer v.present.serve(t)()
	v.enter(stateAcquired, "lock acquired", t.fields()...)
	phases := newPhases(t)
	// From here on no claim is lost. Those from before the address was free do not
	// count.
	listener := v.link.wire.Listen(v.cfg().Addr())
	defer listener.Close()
	f, b, o := v.obtain(ctx, t, handover, phases)
	if o.how != goesOn {
		return o
	}
	a := v.activate(ctx, t, b, listener, f, phases)
	return v.release(ctx, handover, a, a.run(ctx))
}

// obtain binds the address when no other kernel has it any more. A host that counted as
// dead and is heard before the address is bound has to prove its release.
func (v *vip) obtain(ctx context.Context, t tenure, handover handover, phases *phases) (f freed, b binding, o outcome) {
	for {
		if f, o = v.awaitFree(ctx, t, handover); o.how != goesOn {
			return f, b, o
		}
		phases.proved()
		if b, o = v.bind(ctx, t); o.how != returned {
			phases.bound()
			return f, b, o
		}
		t.victim.doubt()
	}
}

// exit returns the error with which the end of a hold ends the process, or nil if
// the address returns to standby. own is how serve ended.
func (v *vip) exit(end lease.End, own outcome) error {
	switch end.Kind {
	case lease.SessionLost:
		return end.Reason
	case lease.LockLost:
		return v.exitOnLoss(end.Reason)
	case lease.SteppedDown:
		switch own.how {
		case addressLost:
			return v.exitOnLoss(own.err)
		case conflict, failed:
			return own.err
		}
	}
	return nil
}

// exitOnLoss returns reason unless on_loss keeps the process.
func (v *vip) exitOnLoss(reason error) error {
	if v.cfg().OnLoss == config.LossContend {
		return nil
	}
	return reason
}
