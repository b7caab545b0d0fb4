package agent

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/netif"
)

const (
	refreshInterval = time.Second
	// rebindLimit is how often within rebindWindow another program may remove the
	// address before the VIP is released.
	rebindLimit  = 5
	rebindWindow = time.Minute
)

// ErrAddressLost says that another program of this host keeps removing a VIP.
var ErrAddressLost = errors.New("address lost")

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
	*vip
	tenure
	listener   listener
	freed      freed
	began      time.Duration
	phases     *phases
	announcing *announcing

	// Written by the goroutine of run, read by the announcer's goroutine: atomic. When
	// the kernel removes the address, on the clock of the hold; 0: it is not bound.
	until atomic.Int64

	// Owned by the goroutine of run. Times are on the clock of the hold.
	address bound // nil: not bound until the lock is certain
	// isolated is since when this host hears neither others nor Consul; 0: it does. The
	// address is not bound again before Consul has confirmed the lock.
	isolated time.Duration
	turn     *turn                  // to refresh the address; nil: that is not due
	claims   <-chan announcer.Claim // nil while calm is set: claims wait in the listener
	calm     <-chan time.Time       // fires when claims are handled again
	rebound  []time.Duration        // when another program had removed the address
}

// activate makes a bound address active: it starts to announce. The listener has
// listened for claims since before the address was free.
func (v *vip) activate(ctx context.Context, t tenure, b binding, l listener, f freed, p *phases) *active {
	a := &active{vip: v, tenure: t, listener: l, freed: f, began: t.Now(), phases: p, address: b.address, claims: l.Claims()}
	a.until.Store(int64(b.until))
	v.present.active.Store(a)
	t.Bound()
	a.announcing = a.announce(ctx)
	v.enter(stateActive, "address bound", "interface", v.link.name)
	v.onAcquired(t, "address bound")
	return a
}

// run refreshes the address's lifetime and handles claims and events of the link and
// the kernel.
func (a *active) run(ctx context.Context) (o outcome) {
	defer a.endTurn()
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	link, changed := a.link.state.Get()
	if !link.usable {
		return a.onLinkChanged(link)
	}
	for o.how == goesOn && ctx.Err() == nil {
		known := a.CertainChanged()
		select {
		case <-ctx.Done():
		case claim := <-a.claims:
			o = a.handleClaim(ctx, claim)
		case <-a.calm:
			a.claims, a.calm = a.listener.Claims(), nil
		case <-tick.C:
			a.queue()
			o = a.checkIsolation(ctx)
		case <-a.missing:
			a.queue()
		case <-known:
			a.onKnown()
		case <-a.turnCome():
			o = a.refresh(ctx)
			a.endTurn()
		case <-a.taken:
			o = a.checkTaken()
		case <-a.heard:
			a.onHeard()
		case <-changed:
			link, changed = a.link.state.Get()
			o = a.onLinkChanged(link)
		}
	}
	if o.how == goesOn {
		o.how = holdEnded
	}
	return o
}

// onLinkChanged restarts the announcements when the link is up again or has a new
// MAC, and ends the service of the address when it has been down for too long.
func (a *active) onLinkChanged(link linkState) outcome {
	switch {
	case !link.usable:
		return outcome{how: linkDown, err: errLinkDown}
	case link.up:
		a.announcing.restart.Set()
	}
	return outcome{}
}

// onKnown binds an address again that had to be unbound while the lock was not
// certain.
func (a *active) onKnown() {
	if a.address == nil {
		a.queue()
	}
}

// mayAnnounce reports whether the address may be announced now. The announcer's
// goroutine calls it before every frame.
func (a *active) mayAnnounce() bool {
	may := a.Certain() && a.Remaining() > 0 && a.inKernel()
	if may {
		a.phases.announced(a.log)
	}
	return may
}

// inKernel reports whether the kernel has the address.
func (a *active) inKernel() bool { return int64(a.Now()) < a.until.Load() }

// checkTaken asks the kernel whether another program has bound the address. The
// event that said so may be from before the address was bound.
func (a *active) checkTaken() outcome {
	if a.address == nil {
		return outcome{} // binding it will tell
	}
	err := a.address.Taken()
	switch {
	case err == nil:
		return outcome{}
	case errors.Is(err, netif.ErrForeign):
		// To remove our address may remove that program's as well, which then adds it
		// again: no reason to take the lock again at once.
		a.fitness.fail(err)
		return a.boundByOther(err)
	}
	return outcome{how: failed, err: err}
}
