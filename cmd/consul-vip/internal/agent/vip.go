package agent

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
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

func (c *currentState) String() string {
	s, _ := c.value.Load().(state)
	return string(s)
}

func (c *currentState) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// handover receives the frames of a handover: *announcer.Handover.
type handover interface {
	AwaitReady(ctx context.Context, timeout time.Duration) bool
	AwaitReleased(ctx context.Context, owner net.HardwareAddr, timeout time.Duration) bool
	Close()
}

// vip is one floating address on this node.
type vip struct {
	// Set by newVIP, never changed.
	link   *link
	kernel kernel
	locks  locks
	owner  Owner        // the part that all locks share
	log    hclog.Logger // each line has the address and the current state

	// Written by the loop, read by any goroutine: atomic. Prefix and interface never
	// change.
	settings atomic.Pointer[config.VIP]

	// Written by the goroutine of run, read by the loop: atomic. The lock is held,
	// contended for, or about to be.
	contending atomic.Bool

	// Written by the goroutine of run, read wherever a line is logged: atomic.
	state currentState

	// Set by the loop, received by the goroutine of run.
	missing latest.Wake // the address may have been removed
	taken   latest.Wake // another program may have bound the address
}

func newVIP(cfg config.VIP, l *link, k kernel, locks locks, owner Owner, log hclog.Logger) *vip {
	v := &vip{
		link:    l,
		kernel:  k,
		locks:   locks,
		owner:   owner,
		missing: latest.NewWake(),
		taken:   latest.NewWake(),
	}
	v.settings.Store(&cfg)
	v.log = log.With("vip", cfg.Addr().String(), "state", &v.state)
	return v
}

// cfg returns the current configuration.
func (v *vip) cfg() *config.VIP { return v.settings.Load() }

// change replaces the configuration by one with the same prefix and interface.
// Only the loop calls it.
func (v *vip) change(cfg config.VIP) {
	before := v.cfg()
	v.settings.Store(&cfg)
	if cfg.Priority != before.Priority || cfg.PreemptDelay != before.PreemptDelay {
		v.renew()
	}
}

// enter makes a transition and logs it with its reason.
func (v *vip) enter(s state, reason string, args ...any) {
	from := v.state.set(s)
	v.log.Info("state changed", append([]any{"from", string(from), "reason", reason}, args...)...)
}

// run repeats the cycle of states until ctx ends, then returns nil, or until an
// error ends the VIP for good.
func (v *vip) run(ctx context.Context) error {
	handover := v.link.wire.Handover(v.cfg().Addr())
	defer handover.Close()
	reason := "started"
	for {
		v.enter(stateStandby, reason)
		if !v.awaitCarrier(ctx) {
			return nil
		}
		err := v.contend(ctx, handover)
		switch {
		case err == nil:
			return nil
		case !v.contendsAfter(err):
			v.log.Error("exiting because of this address", "reason", err)
			return err
		}
		reason = err.Error()
	}
}

// contendsAfter reports whether the VIP returns to standby after err.
func (v *vip) contendsAfter(err error) bool {
	switch {
	case errors.Is(err, errCarrier), errors.Is(err, lease.ErrTransferred), errors.Is(err, lease.ErrReleased):
		return true
	case errors.Is(err, lease.ErrLockLost), errors.Is(err, ErrAddressLost):
		return v.cfg().OnLoss == config.LossContend
	}
	return false
}

// serve goes through acquired, active and releasing while the lock is held. When it
// returns, the address is unbound, and only then the lock is released. In a
// handover the lock is transferred first, and a frame tells the successor when the
// address is unbound.
func (v *vip) serve(ctx context.Context, previous leasestate.Record, held newHold, handover handover) (err error) {
	v.enter(stateAcquired, "lock acquired", previousOwnerFields(previous)...)
	address, confirmed, err := v.takeOver(ctx, previous, held, handover)
	switch {
	case errors.Is(err, errHoldEnded):
		return nil // Hold knows why
	case err != nil:
		return err
	}
	a := v.activate(ctx, held, address, confirmed)
	defer func() { err = v.release(ctx, handover, a, err) }()
	return a.run(ctx)
}
