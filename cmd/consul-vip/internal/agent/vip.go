package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

// unknownTTL is how long an unknown last owner may go on answering.
const unknownTTL = 30 * time.Second

var (
	// errCarrier gives a VIP away while its link is down.
	errCarrier  = errors.New("carrier lost")
	errDeadline = fmt.Errorf("%w: its hold deadline is too near to bind", lease.ErrSessionLost)
)

// locks holds a lock while a function runs; it is lease.Keeper's part here.
type locks interface {
	Hold(ctx context.Context, name string, owner lease.Owner, fn func(context.Context, *lease.Held) error) error
}

// kernel binds addresses to interfaces.
type kernel interface {
	Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error)
}

// bound is an address while it is bound.
type bound interface {
	Refresh(lifetime time.Duration) (restored bool, err error)
	Unbind() error
}

// binder makes netif's host a kernel.
type binder struct{ host *netif.Host }

func (b binder) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error) {
	a, err := b.host.Bind(ifindex, p, lifetime)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// vip is one floating address on this node. Its fields belong to the goroutine
// that runs it, but for notices.
type vip struct {
	cfg     config.VIP
	link    *link
	locks   locks
	kernel  kernel
	allocID string

	base    hclog.Logger
	log     hclog.Logger // with the state
	state   state
	notices chan notice
}

func newVIP(cfg config.VIP, l *link, k kernel, log hclog.Logger) *vip {
	v := &vip{
		cfg:     cfg,
		link:    l,
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
		err := v.locks.Hold(ctx, v.cfg.Addr().String(), v.owner(), v.serve)
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
func (v *vip) serve(ctx context.Context, held *lease.Held) (err error) {
	v.enter(acquired, "lock acquired", "predecessor", held.Predecessor.Node, "predecessor_state", held.Predecessor.State)
	if up, _, _ := v.link.state(); !up {
		return errCarrier
	}
	if err := v.checkWire(ctx, held); err != nil {
		return err
	}
	address, err := v.bind(ctx, held)
	if address == nil {
		return err
	}
	listener := v.link.wire.Listen(v.cfg.Addr())
	announcing := v.startAnnouncing(ctx)
	defer func() {
		v.leave(ctx, held, address, announcing, err)
		listener.Close()
	}()
	v.enter(active, "address bound", "interface", v.link.name)
	return v.guard(ctx, held, address, announcing, listener.Claims())
}

// checkWire makes sure that the last owner's kernel has let go of the address.
// A record that says `released` was written after that; anything else proves
// nothing.
func (v *vip) checkWire(ctx context.Context, held *lease.Held) error {
	last := held.Predecessor
	if last.State == lease.StateReleased {
		return nil
	}
	mac, _ := net.ParseMAC(last.MAC) // nil asks everybody
	patience := last.OwnerTTL(unknownTTL)
	began := time.Now()
	err := v.link.wire.Ask(ctx, announcer.Question{Addr: v.cfg.Addr(), Last: mac, Patience: patience})
	var answered *announcer.AnsweredError
	switch {
	case ctx.Err() != nil:
		return nil // Hold knows why
	case errors.As(err, &answered):
		v.log.Error("address conflict: a stranger answers for it", "mac", answered.MAC.String(), "asked_for", time.Since(began).Round(time.Millisecond))
		return &ConflictError{Addr: v.cfg.Addr(), MAC: answered.MAC, Quit: v.cfg.OnConflict == config.ConflictQuit}
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
func (v *vip) bind(ctx context.Context, held *lease.Held) (bound, error) {
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
func (v *vip) lifetime(held *lease.Held) time.Duration {
	return min(v.cfg.DeadMan, held.Remaining()).Truncate(time.Second)
}

// leave stops announcing and unbinds.
func (v *vip) leave(ctx context.Context, held *lease.Held, address bound, announcing *announcing, err error) {
	announcing.stop()
	failed := address.Unbind()
	left := time.Now()

	if err == nil {
		err = context.Cause(ctx)
	}
	v.enter(releasing, reasonOf(err))
	var args []any
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		v.log.Error("address conflict", "mac", conflict.MAC.String(), "on_conflict", string(v.cfg.OnConflict))
		args = append(args, "reaction", left.Sub(conflict.Received).String())
	}
	if failed != nil {
		held.Unclean()
		v.log.Error("could not unbind the address, the kernel will", "error", failed, "within", v.cfg.DeadMan)
		return
	}
	v.log.Info("released the address", append(args, "reason", reasonOf(err))...)
}

func reasonOf(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}
