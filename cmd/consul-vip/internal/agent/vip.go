package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
)

// state is where a VIP is in its life, as the log shows it.
type state string

const (
	stateStandby   state = "standby"   // another node has the lock, or nobody yet
	stateAcquired  state = "acquired"  // the lock is ours, the address not bound yet
	stateActive    state = "active"    // bound and announced
	stateReleasing state = "releasing" // giving the address back
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

// ErrAddressLost says that another program of this host keeps removing a VIP.
var ErrAddressLost = errors.New("address lost")

var (
	// errCarrier gives a VIP away while its link is down.
	errCarrier  = errors.New("carrier lost")
	errPaused   = fmt.Errorf("%w, perhaps: this process was paused while it bound the address", lease.ErrSessionLost)
	errDeadline = fmt.Errorf("%w: its hold deadline is here", lease.ErrSessionLost)
)

// wire is what stations on the link hear and say: announcer.Wire.
type wire interface {
	Probe(ctx context.Context, q announcer.ProbeConfig) error
	Announce(ctx context.Context, a announcer.Announcement, again <-chan struct{}) error
	Listen(addr netip.Addr) listener
}

// succession is how an address passes from one host to the next on the wire.
type succession interface {
	SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr) error
	SendReleased(ctx context.Context, addr netip.Addr) error
	Handover(addr netip.Addr) handover
}

// handover waits for what the other side of a handover says: announcer.Heir.
type handover interface {
	AwaitReady(ctx context.Context, patience time.Duration) bool
	AwaitReleased(ctx context.Context, owner net.HardwareAddr, patience time.Duration) bool
	Close()
}

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

	log   hclog.Logger // with the address and the current state in every line
	state currentState

	// Words from the kernel about the address, each in a channel that holds one.
	missing latest.Wake // it may have been removed
	taken   latest.Wake // another program may have it
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
		missing: latest.NewWake(),
		taken:   latest.NewWake(),
	}
	v.settings.Store(&cfg)
	v.log = log.With("vip", cfg.Addr().String(), "state", &v.state)
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

// enter makes a transition and logs why.
func (v *vip) enter(s state, reason string, args ...any) {
	from := v.state.set(s)
	v.log.Info("state changed", append([]any{"from", string(from), "reason", reason}, args...)...)
}

// run contends for the VIP and serves it, over and over, until ctx ends or an
// error ends it for good.
func (v *vip) run(ctx context.Context) error {
	handover := v.handing.Handover(v.cfg().Addr())
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
		case errors.Is(err, errCarrier), errors.Is(err, lease.ErrHandedOver), errors.Is(err, lease.ErrReleased):
		case (errors.Is(err, lease.ErrLockLost) || errors.Is(err, ErrAddressLost)) && v.cfg().OnLoss == config.LossContend:
		default:
			v.log.Error("giving up", "reason", err)
			return err
		}
		reason = err.Error()
	}
}

// serve is the VIP's life while the lock is held: make sure that the last owner
// has let go, bind, announce and listen, and whatever ends it, stop announcing
// and unbind. The lock leaves Consul only after it has returned, unless it is
// handed over; then a word on the wire tells the successor.
func (v *vip) serve(ctx context.Context, last lease.Record, held hold, handover handover) (err error) {
	v.enter(stateAcquired, "lock acquired", previousOwnerFields(last)...)
	if s, _ := v.link.state.Get(); !s.up {
		return errCarrier
	}
	if err := v.awaitPreviousOwner(ctx, last, handover); err != nil {
		return err
	}
	v.drainEvents()
	confirmed, err := v.confirmLock(ctx, held)
	if err != nil {
		return err
	}
	address, err := v.bind(ctx, held, confirmed)
	if address == nil {
		return markUnclean(err)
	}
	listener := v.wire.Listen(v.cfg().Addr())
	held.Serving()
	a := &active{vip: v, held: held, address: address}
	a.seen.Store(int64(confirmed))
	a.until = held.Now() + v.lifetime(held)
	a.announcing = v.announce(ctx, a.mayAnnounce)
	defer func() {
		err = v.release(ctx, handover, address, a.announcing, err)
		listener.Close()
	}()
	v.enter(stateActive, "address bound", "interface", v.link.name)
	return a.run(ctx, listener.Claims())
}
