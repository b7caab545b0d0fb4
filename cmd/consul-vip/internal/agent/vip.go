package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

// state is where a VIP is in its life, as the log shows it.
type state string

const (
	standby   state = "standby"   // another node has the lock, or nobody yet
	acquired  state = "acquired"  // the lock is ours, the address not bound yet
	active    state = "active"    // bound and announced
	releasing state = "releasing" // giving the address back
)

// unknownTTL is how long an unknown last owner may go on answering.
const unknownTTL = 30 * time.Second

var (
	// errCarrier gives a VIP away while its link is down.
	errCarrier  = errors.New("carrier lost")
	errDeadline = fmt.Errorf("%w: its hold deadline is too near to bind", lease.ErrSessionLost)
)

// vip is one floating address on this node. Its fields belong to the goroutine
// that runs it, but for notices.
type vip struct {
	cfg     config.VIP
	link    *link
	locks   locks
	kernel  kernel
	wire    wire
	allocID string

	base    hclog.Logger
	log     hclog.Logger // with the state
	state   state
	notices chan notice
}

func newVIP(cfg config.VIP, l *link, w wire, k kernel, log hclog.Logger) *vip {
	v := &vip{
		cfg:     cfg,
		link:    l,
		wire:    w,
		kernel:  k,
		base:    log.With("vip", cfg.Addr().String()),
		notices: make(chan notice, 4),
	}
	v.log = v.base
	return v
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
	reason := "started"
	for {
		v.enter(standby, reason)
		if !v.awaitCarrier(ctx) {
			return nil
		}
		err := v.locks.Hold(ctx, v.cfg.Addr().String(), v.owner(), func(ctx context.Context, held *lease.Held) error {
			return v.serve(ctx, held.Predecessor, held)
		})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errCarrier):
		case errors.Is(err, lease.ErrLockLost) && v.cfg.OnLoss == config.LossContend:
		default:
			v.log.Error("giving up", "reason", err)
			return err
		}
		reason = err.Error()
	}
}

func (v *vip) owner() lease.Owner {
	_, mac, _ := v.link.state()
	return lease.Owner{Interface: v.link.name, MAC: mac.String(), AllocID: v.allocID}
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

// serve is the VIP's life while the lock is held: check the wire, bind,
// announce and listen, and whatever ends it, stop announcing and unbind. The
// lock leaves Consul only after it has returned.
func (v *vip) serve(ctx context.Context, last lease.Record, held hold) (err error) {
	v.enter(acquired, "lock acquired", "last_owner", last.Node, "last_record", string(last.State))
	if up, _, _ := v.link.state(); !up {
		return errCarrier
	}
	if err := v.checkWire(ctx, last); err != nil {
		return err
	}
	address, err := v.bind(ctx, held)
	if address == nil {
		return err
	}
	listener := v.wire.Listen(v.cfg.Addr())
	announcing := v.startAnnouncing(ctx)
	defer func() {
		err = v.leave(ctx, address, announcing, err)
		listener.Close()
	}()
	v.enter(active, "address bound", "interface", v.link.name)
	return v.guard(ctx, held, address, announcing, listener.Claims())
}

// checkWire makes sure that the last owner's kernel has let go of the address.
// A record that says `released` was written after that; anything else proves
// nothing.
func (v *vip) checkWire(ctx context.Context, last lease.Record) error {
	if last.State == lease.StateReleased {
		return nil
	}
	mac, _ := net.ParseMAC(last.MAC) // nil asks everybody
	patience := last.OwnerTTL(unknownTTL)
	began := time.Now()
	err := v.wire.Ask(ctx, announcer.Question{Addr: v.cfg.Addr(), Last: mac, Patience: patience})
	var answered *announcer.AnsweredError
	switch {
	case ctx.Err() != nil:
		return nil // Hold knows why
	case errors.As(err, &answered):
		v.log.Error("address conflict: a stranger answers for it", "mac", answered.MAC.String(), "asked_for", time.Since(began).Round(time.Millisecond))
		return &ConflictError{Addr: v.cfg.Addr(), MAC: answered.MAC, Quit: v.cfg.OnConflict == config.ConflictQuit}
	case errors.Is(err, announcer.ErrNotSent):
		return fmt.Errorf("%w: %w", errCarrier, err)
	case err != nil:
		return err
	}
	v.log.Info("nobody answers for the address", "asked_for", time.Since(began).Round(time.Millisecond))
	if v.cfg.Takeover == config.TakeoverStrict {
		return v.waitOut(ctx, patience)
	}
	return nil
}

// waitOut leaves the last owner its whole TTL, in case it serves on the far
// side of a split network where it cannot be heard.
func (v *vip) waitOut(ctx context.Context, ttl time.Duration) error {
	v.log.Info("waiting out the last owner", "for", ttl)
	t := time.NewTimer(ttl)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// bind binds the address, inside the hold deadline before and after. It
// returns nil without an error when the hold has ended.
func (v *vip) bind(ctx context.Context, held hold) (bound, error) {
	lifetime := v.lifetime(held)
	switch {
	case ctx.Err() != nil:
		return nil, nil
	case lifetime < time.Second:
		return nil, errDeadline
	}
	address, err := v.kernel.Bind(v.link.index, v.cfg.Prefix, lifetime)
	if err != nil {
		return nil, err
	}
	if held.Remaining() <= 0 {
		return nil, errors.Join(errDeadline, address.Unbind())
	}
	return address, nil
}

// lifetime is what the kernel is told: it removes the address by itself unless
// this process goes on living, inside the hold deadline.
func (v *vip) lifetime(held hold) time.Duration {
	return min(v.cfg.DeadMan, held.Remaining()).Truncate(time.Second)
}

// leave stops announcing and unbinds, because of err or else of what ended
// ctx, and returns err with what went wrong.
func (v *vip) leave(ctx context.Context, address bound, announcing *announcing, err error) error {
	announcing.stop()
	failed := address.Unbind()
	left := time.Now()

	reason := err
	if reason == nil {
		reason = context.Cause(ctx)
	}
	v.enter(releasing, reason.Error())
	var args []any
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		v.log.Error("address conflict", "mac", conflict.MAC.String(), "on_conflict", string(v.cfg.OnConflict))
		args = append(args, "reaction", left.Sub(conflict.Received).String())
	}
	if failed != nil {
		v.log.Error("could not unbind the address, the kernel will", "error", failed, "within", v.cfg.DeadMan)
		return errors.Join(err, fmt.Errorf("%w: %w", lease.ErrNotUndone, failed))
	}
	v.log.Info("released the address", append(args, "reason", reason.Error())...)
	return err
}
