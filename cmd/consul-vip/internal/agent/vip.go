package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// state is where a VIP is in its life, as the log shows it.
type state string

const (
	standby   state = "standby"   // another node has the lock, or nobody yet
	acquired  state = "acquired"  // the lock is ours, the address not bound yet
	active    state = "active"    // bound and announced
	releasing state = "releasing" // giving the address back
)

// In a handover the successor calls for the address as soon as it sees that it has
// the lock. Only then does the owner unbind it and say so.
const (
	// callTimeout is how long the owner goes on serving for want of a call, while
	// the successor may be busy with many.
	callTimeout = 500 * time.Millisecond
	// goTimeout is how long the owner's word may take after a call.
	goTimeout = 50 * time.Millisecond
	// calls is how many frames may get lost on the way before the wire is asked.
	calls = 3
)

// unknownTTL is how long an unknown last owner may go on answering.
const unknownTTL = 30 * time.Second

// ErrAddressLost says that another program of this host keeps removing a VIP.
var ErrAddressLost = errors.New("address lost")

var (
	// errCarrier gives a VIP away while its link is down.
	errCarrier  = errors.New("carrier lost")
	errPaused   = fmt.Errorf("%w, perhaps: this process was paused while it bound the address", lease.ErrSessionLost)
	errDeadline = fmt.Errorf("%w: its hold deadline is here", lease.ErrSessionLost)
)

// vip is one floating address on this node. Its fields belong to the goroutine
// that runs it, but for its settings and the kernel's words.
type vip struct {
	link    *link
	locks   locks
	kernel  kernel
	wire    wire
	handing succession
	owner   lease.Owner // what the process knows of itself; the link adds the rest

	settings   atomic.Pointer[config.VIP] // of a prefix and on an interface that never change
	contending atomic.Bool                // the lock is held, contended for, or about to be

	base  hclog.Logger
	log   hclog.Logger // with the state
	state state

	// Words from the kernel about the address, each in a channel that holds one.
	missing chan struct{} // it may have been removed
	taken   chan struct{} // another program may have it
}

func newVIP(cfg config.VIP, l *link, w interface {
	wire
	succession
}, k kernel, log hclog.Logger) *vip {
	v := &vip{
		link:    l,
		wire:    w,
		handing: w,
		kernel:  k,
		base:    log.With("vip", cfg.Addr().String()),
		missing: make(chan struct{}, 1),
		taken:   make(chan struct{}, 1),
	}
	v.settings.Store(&cfg)
	v.log = v.base
	return v
}

// cfg is the VIP's configuration as of now.
func (v *vip) cfg() *config.VIP { return v.settings.Load() }

// change makes cfg, which is about the same prefix and interface, the VIP's
// configuration from now on.
func (v *vip) change(cfg config.VIP) {
	before := v.cfg()
	v.settings.Store(&cfg)
	if cfg.Priority != before.Priority || cfg.PreemptDelay != before.PreemptDelay {
		v.renew()
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

// enter makes a transition and logs why.
func (v *vip) enter(s state, reason string, args ...any) {
	from := v.state
	v.state = s
	v.log = v.base.With("state", string(s))
	v.log.Info("state changed", append([]any{"from", string(from), "reason", reason}, args...)...)
}

// run contends for the VIP and serves it, over and over, until ctx ends or an
// error ends it for good.
func (v *vip) run(ctx context.Context) error {
	handover := v.handing.Handover(v.cfg().Addr())
	defer handover.Close()
	reason := "started"
	for {
		v.enter(standby, reason)
		if !v.awaitCarrier(ctx) {
			return nil
		}
		err := v.hold(ctx, handover)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errCarrier), errors.Is(err, lease.ErrHandedOver), errors.Is(err, lease.ErrReleased):
		case (errors.Is(err, lease.ErrLockLost) || errors.Is(err, ErrAddressLost)) && v.cfg().OnLoss == config.LossContend:
		default:
			v.log.Error("giving up", "reason", err)
			return err
		}
		reason = err.Error()
	}
}

// hold contends for the lock and serves while it is held.
func (v *vip) hold(ctx context.Context, handover handover) error {
	v.contending.Store(true) // before the configuration is read
	defer v.contending.Store(false)
	return v.locks.Hold(ctx, v.lock(), func(ctx context.Context, held *lease.Held) error {
		return v.serve(ctx, held.Predecessor, held, handover)
	})
}

// lock is what this VIP contends for, and with which face.
func (v *vip) lock() lease.Lock {
	_, mac, _ := v.link.state()
	owner := v.owner
	owner.Interface, owner.MAC = v.link.name, mac.String()
	cfg := v.cfg()
	return lease.Lock{
		Name:         cfg.Addr().String(),
		Priority:     cfg.Priority,
		PreemptDelay: cfg.PreemptDelay,
		Owner:        owner,
	}
}

// awaitCarrier returns false when ctx ends first: a node without a link has
// nothing to contend with.
func (v *vip) awaitCarrier(ctx context.Context) bool {
	up, _, changed := v.link.state()
	if !up {
		v.log.Warn("waiting for the link to come up", "interface", v.link.name)
	}
	for ; !up; up, _, changed = v.link.state() {
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// serve is the VIP's life while the lock is held: make sure that the last owner
// has let go, bind, announce and listen, and whatever ends it, stop announcing
// and unbind. The lock leaves Consul only after it has returned, unless it is
// handed over; then a word on the wire tells the successor.
func (v *vip) serve(ctx context.Context, last lease.Record, held hold, handover handover) (err error) {
	v.enter(acquired, "lock acquired", ofLast(last)...)
	if up, _, _ := v.link.state(); !up {
		return errCarrier
	}
	if err := v.awaitLastOwner(ctx, last, handover); err != nil {
		return err
	}
	v.forget()
	sure, err := v.makeSure(ctx, held)
	if err != nil {
		return err
	}
	address, err := v.bind(ctx, held, sure)
	if address == nil {
		return unclean(err)
	}
	listener := v.wire.Listen(v.cfg().Addr())
	held.Serving()
	g := &guard{vip: v, held: held, address: address}
	g.seen.Store(int64(sure))
	g.until = held.Now() + v.lifetime(held)
	g.announcing = v.startAnnouncing(ctx, g.entitled)
	defer func() {
		err = v.leave(ctx, handover, address, g.announcing, err)
		listener.Close()
	}()
	v.enter(active, "address bound", "interface", v.link.name)
	return g.run(ctx, listener.Claims())
}

// unclean marks err if it says that this host goes on answering for the address.
func unclean(err error) error {
	if errors.Is(err, netif.ErrForeign) {
		return fmt.Errorf("%w: %w", lease.ErrUnclean, err)
	}
	return err
}

// ofLast is the last owner as the log shows it.
func ofLast(last lease.Record) []any {
	switch last.State {
	case lease.StateUnknown:
		return nil
	case lease.StateHandover:
		return []any{"handed_over_by", last.From, "record", string(last.State)}
	}
	return []any{"last_owner", last.Node, "record", string(last.State)}
}

// awaitLastOwner returns when the last owner's kernel has let go of the
// address. A record that says so was written after that; one that hands the lock
// over is followed by a word on the wire; anything else proves nothing.
func (v *vip) awaitLastOwner(ctx context.Context, last lease.Record, handover handover) error {
	mac, _ := net.ParseMAC(last.MAC) // nil asks everybody
	switch {
	case last.LetGo():
		return nil
	case last.State == lease.StateHandover:
		if v.inherit(ctx, mac, handover) {
			return nil
		}
		v.log.Warn("the last owner did not say that it let go, asking the wire", "from", last.From)
	}
	patience := last.OwnerTTL(unknownTTL)
	if v.cfg().Takeover == config.TakeoverStrict {
		v.waitOut(ctx, patience)
	}
	return v.askWire(ctx, mac, patience)
}

// inherit calls for the address and reports whether its owner has let go of it.
func (v *vip) inherit(ctx context.Context, owner net.HardwareAddr, handover handover) bool {
	for range calls {
		if err := v.handing.SendReady(ctx, v.cfg().Addr(), owner); err != nil && ctx.Err() == nil {
			v.log.Warn("could not call for the address", "error", err)
		}
		if handover.AwaitReleased(ctx, owner, goTimeout) {
			return true
		}
	}
	return false
}

// askWire returns once nobody answers for the address.
func (v *vip) askWire(ctx context.Context, last net.HardwareAddr, patience time.Duration) error {
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

// waitOut leaves the last owner its whole TTL, in case it serves on the far
// side of a split network where it cannot be heard.
func (v *vip) waitOut(ctx context.Context, ttl time.Duration) {
	v.log.Info("waiting out the last owner", "for", ttl.String())
	wait(ctx, ttl)
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

// verify asks Consul whether the lock is still ours.
func (v *vip) verify(ctx context.Context, held hold) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	return held.Verify(ctx)
}

// makeSure returns when the lock was last known to be ours, which was a moment
// ago. If it was not, because of a pause or because the last owner took its
// time, Consul is asked first: the check may have run out in a pause, and the
// address be another's while the news of it waits for us.
func (v *vip) makeSure(ctx context.Context, held hold) (sure time.Duration, err error) {
	sure = held.Since()
	for held.Now()-sure > longestGap && ctx.Err() == nil {
		asked := held.Now()
		err := v.verify(ctx, held)
		switch {
		case ctx.Err() != nil: // Hold knows why
		case errors.Is(err, lease.ErrLockLost):
			return 0, err
		case err == nil:
			sure = asked
		default:
			v.log.Warn("not binding the address yet: Consul does not answer", "error", err)
			wait(ctx, verifyPause)
		}
	}
	return sure, nil
}

// bind binds the address, inside the hold deadline before and after, and with
// no pause since it was sure that the lock is ours. It returns nil without an
// error when the hold has ended.
func (v *vip) bind(ctx context.Context, held hold, sure time.Duration) (bound, error) {
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
	if held.Now()-sure > longestGap {
		return nil, errors.Join(errPaused, address.Unbind())
	}
	return address, nil
}

// lifetime is what the kernel is told: it removes the address by itself unless
// this process goes on living, inside the hold deadline.
func (v *vip) lifetime(held hold) time.Duration {
	return min(v.cfg().DeadMan, held.Remaining()).Truncate(time.Second)
}

// leave stops announcing and unbinds, because of err or else of what ended
// ctx, and returns err with what went wrong. In between, it gives a successor the
// time to be ready, so that the address is missing for as short as can be.
func (v *vip) leave(ctx context.Context, handover handover, address bound, announcing *announcing, err error) error {
	reason := err
	if reason == nil {
		reason = context.Cause(ctx)
	}
	handedOver := errors.Is(reason, lease.ErrHandedOver)
	announcing.stop()
	if handedOver && !handover.AwaitReady(context.WithoutCancel(ctx), callTimeout) {
		v.log.Warn("the successor did not call for the address, letting go all the same")
	}
	failed := address.Unbind()
	left := time.Now()
	if handedOver && failed == nil {
		v.yield()
	}
	v.enter(releasing, reason.Error())
	var args []any
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		v.log.Error("address conflict", "mac", conflict.MAC.String(), "on_conflict", string(v.cfg().OnConflict))
		args = append(args, "reaction", left.Sub(conflict.Received).String())
	}
	if failed != nil {
		v.log.Error("could not unbind the address, the kernel will", "error", failed, "within", v.cfg().DeadMan.String())
		return errors.Join(err, fmt.Errorf("%w: %w", lease.ErrUnclean, failed))
	}
	v.log.Info("released the address", append(args, "reason", reason.Error())...)
	return err
}

// yield tells the successor that it may bind.
func (v *vip) yield() {
	ctx, cancel := context.WithTimeout(context.Background(), goTimeout)
	defer cancel()
	if err := v.handing.SendReleased(ctx, v.cfg().Addr()); err != nil {
		v.log.Warn("could not tell the successor, which will ask", "error", err)
	}
}
