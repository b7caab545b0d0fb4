package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
)

const (
	refreshInterval = time.Second
	// longestGap is the longest time between two looks at the clock of a process that
	// runs normally. After a longer gap the process was stopped or the machine
	// suspended, and its check may have run out: check_ttl is at least 2 s and is
	// refreshed twice a second or more often.
	longestGap = refreshInterval + refreshInterval/4
	// carrierDebounce is how long a link may be down before the VIP is released.
	carrierDebounce = 500 * time.Millisecond
	// rebindLimit is how often within rebindWindow another program may remove the
	// address before the VIP is released.
	rebindLimit  = 5
	rebindWindow = time.Minute
)

var (
	// ErrAddressLost says that another program of this host keeps removing a VIP.
	ErrAddressLost = errors.New("address lost")

	// errCarrier releases a VIP whose link is down.
	errCarrier = errors.New("carrier lost")
)

// activeWire is the wire as an active VIP uses it: *announcer.Wire.
type activeWire interface {
	Announce(ctx context.Context, a announcer.Announcement, restart <-chan struct{}) error
	Listen(addr netip.Addr) listener
}

// listener delivers claims of an address: *announcer.Listener.
type listener interface {
	Claims() <-chan announcer.Claim
	Close()
}

// active is a VIP while its address is bound and announced.
type active struct {
	// Set by activate, never changed.
	log            hclog.Logger
	cfg            func() *config.VIP // the current configuration
	link           *link
	missing, taken latest.Wake // see vip
	held           hold
	address        bound
	listener       listener
	announcing     *announcing

	// Written by the goroutine of run, read by the announcer's goroutine: atomic.
	// The time at which the lock was last known to be held, on the clock of held.
	seen atomic.Int64

	// Owned by the goroutine of run. Times are on the clock of held.
	until       time.Duration          // the kernel removes the address
	claims      <-chan announcer.Claim // nil while calm is set: claims wait in the listener
	calm        <-chan time.Time       // fires when claims are handled again
	carrierLost <-chan time.Time       // the link has been down for too long
	rebound     []time.Duration        // when the address was bound again
}

// activate makes a bound address active: it listens for claims and starts to
// announce. The lock was last confirmed at that time on the clock of held.
func (v *vip) activate(ctx context.Context, held newHold, address bound, confirmed time.Duration) *active {
	a := &active{
		log:      v.log,
		cfg:      v.cfg,
		link:     v.link,
		missing:  v.missing,
		taken:    v.taken,
		held:     held,
		address:  address,
		listener: v.link.wire.Listen(v.cfg().Addr()),
	}
	held.Serving()
	a.seen.Store(int64(confirmed))
	a.until = held.Now() + kernelLifetime(v.cfg(), held)
	a.announcing = a.announce(ctx)
	v.enter(stateActive, "address bound", "interface", v.link.name)
	return a
}

// run refreshes the address's lifetime and handles claims and events of the link and
// the kernel. It returns nil when ctx ends.
func (a *active) run(ctx context.Context) error {
	a.claims = a.listener.Claims()
	state, changed := a.link.state.Get()
	if !state.up {
		a.onLinkChanged(state.up)
	}
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case claim := <-a.claims:
			err = a.handleConflict(ctx, claim)
		case <-a.calm:
			a.claims, a.calm = a.listener.Claims(), nil
		case <-a.missing:
			err = a.refresh(ctx)
		case <-a.taken:
			// Checked, because the event may be from before the address was bound.
			err = markUnclean(a.address.Taken())
		case <-tick.C:
			err = a.refresh(ctx)
		case <-changed:
			state, changed = a.link.state.Get()
			a.onLinkChanged(state.up)
		case <-a.carrierLost:
			err = errCarrier
		}
		if err != nil {
			return err
		}
	}
}

// paused returns how long this process did not look at the clock, or 0 if that is
// at most longestGap.
func (a *active) paused() time.Duration {
	if gap := a.held.Now() - time.Duration(a.seen.Load()); gap > longestGap {
		return gap
	}
	return 0
}

// mayAnnounce reports whether the address may be announced now. The announcer's
// goroutine calls it before every frame.
func (a *active) mayAnnounce() bool { return a.paused() == 0 && a.held.Remaining() > 0 }

// refresh extends the address's lifetime and binds it again if it is missing. After
// a pause it first verifies the lock: the check may have run out meanwhile, and
// another node may own the address.
func (a *active) refresh(ctx context.Context) error {
	if a.held.Remaining() <= 0 {
		return errDeadline
	}
	// A process that is paused while it verifies the lock holds an old answer, so it
	// verifies the lock again.
	for gap := a.paused(); gap > 0; gap = a.paused() {
		a.log.Warn("the process was paused, verifying the lock", "for", gap.String())
		asked := a.held.Now()
		err := verify(ctx, a.held)
		switch {
		case ctx.Err() != nil:
			return nil // Hold knows why
		case errors.Is(err, lease.ErrLockLost):
			return err
		case err != nil:
			a.log.Warn("not refreshing the address: Consul does not answer", "error", err)
			return nil
		}
		a.seen.Store(int64(asked))
	}
	now, lifetime := a.held.Now(), kernelLifetime(a.cfg(), a.held)
	switch {
	case ctx.Err() != nil:
		return nil
	case lifetime >= time.Second:
		return a.extend(now, lifetime)
	case now < a.until:
		return nil // less than a second is left to extend it by
	}
	return errDeadline // the kernel has removed the address
}

// extend gives the address a lifetime that begins now.
func (a *active) extend(now, lifetime time.Duration) error {
	restored, err := a.address.Refresh(lifetime)
	if err != nil {
		return err
	}
	a.seen.Store(int64(now))
	a.until = now + lifetime
	if restored {
		return a.onRestored(now)
	}
	return nil
}

// onRestored handles that another program had removed the address and it was bound
// again.
func (a *active) onRestored(now time.Duration) error {
	a.rebound = append(a.rebound, now)
	if n := len(a.rebound); n >= rebindLimit && now-a.rebound[n-rebindLimit] < rebindWindow {
		return fmt.Errorf("%w: it was removed %d times within %s", ErrAddressLost, rebindLimit, rebindWindow)
	}
	a.log.Warn("another program removed the address, bound it again", "times", len(a.rebound))
	a.announcing.restart.Set()
	return nil
}

// onLinkChanged restarts the announcements when the link is up again or has a new
// MAC, and limits the time that it may be down.
func (a *active) onLinkChanged(up bool) {
	switch {
	case up:
		a.carrierLost = nil
		a.announcing.restart.Set()
	case a.carrierLost == nil:
		a.log.Warn("the link is down", "interface", a.link.name)
		a.carrierLost = time.After(carrierDebounce)
	}
}

// announcing is the goroutine that announces an address.
type announcing struct {
	cancel  context.CancelFunc
	restart latest.Wake // starts the schedule from its beginning
	done    sync.WaitGroup
}

// announce starts the goroutine that announces the address until stop is called or
// ctx ends.
func (a *active) announce(ctx context.Context) *announcing {
	ctx, cancel := context.WithCancel(ctx)
	n := &announcing{cancel: cancel, restart: latest.NewWake()}
	n.done.Go(func() {
		err := a.link.wire.Announce(ctx, announcer.Announcement{
			Addr:        a.cfg().Addr(),
			Schedule:    func() announcer.Schedule { return announcer.Schedule(a.cfg().Announce) },
			MayAnnounce: a.mayAnnounce,
		}, n.restart)
		if err != nil && ctx.Err() == nil {
			a.log.Error("announcing failed", "error", err)
		}
	})
	return n
}

// stop ends the goroutine. After it returns no more frames leave this host.
func (n *announcing) stop() {
	n.cancel()
	n.done.Wait()
}
