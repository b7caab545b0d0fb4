package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

const (
	refreshInterval = time.Second
	// longestGap between two looks at the clock is still an ordinary life. After
	// a longer one the process was stopped or the machine suspended, and its
	// check may have run out (config: check_ttl is 2 s or more, refreshed every
	// third of it).
	longestGap = refreshInterval + refreshInterval/4
	// verifyTimeout bounds how long a question to Consul keeps the VIP from
	// listening.
	verifyTimeout = time.Second
	// carrierDebounce is how long a carrier may be away.
	carrierDebounce = 500 * time.Millisecond
	// defendInterval keeps a flood of claims from becoming a flood of ours.
	defendInterval = time.Second
)

// notice is a word from the kernel about a VIP's address.
type notice int

const (
	addressMissing notice = iota // removed by whomever, or maybe
	addressForeign               // another program has made it its own
)

// notify never waits: a notice that finds the channel full finds one of its
// kind in it that has not been heeded yet, or the address is not bound.
func (v *vip) notify(n notice) {
	select {
	case v.notices <- n:
	default:
	}
}

// guard serves while the lock is held: it refreshes the address's lifetime,
// heeds claims, the link and the kernel, and returns nil when ctx ends.
func (v *vip) guard(ctx context.Context, held hold, address bound, announcing *announcing, claims <-chan announcer.Claim) error {
	g := &guard{vip: v, held: held, address: address, announcing: announcing, claims: claims, seen: held.Now()}
	up, _, changed := v.link.state()
	if !up {
		g.linkChanged(up)
	}
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case claim := <-g.claims:
			err = g.contested(ctx, claim)
		case <-g.calm:
			g.claims, g.calm = claims, nil
		case n := <-v.notices:
			err = g.heed(ctx, n)
		case <-tick.C:
			_, err = g.refresh(ctx)
		case <-changed:
			up, _, changed = v.link.state()
			g.linkChanged(up)
		case <-g.carrierLost:
			err = errCarrier
		}
		if err != nil {
			return err
		}
	}
}

// guard is the state of one guard loop.
type guard struct {
	*vip
	held       hold
	address    bound
	announcing *announcing

	seen        time.Duration          // when the hold was last known to be good
	claims      <-chan announcer.Claim // nil while calm is awaited
	calm        <-chan time.Time
	carrierLost <-chan time.Time
	rebound     int
}

// refresh gives the address another lifetime, and puts it back if it is
// missing. After a gap it first asks Consul whether the lock is still ours:
// the check may have run out meanwhile and the address be another's.
func (g *guard) refresh(ctx context.Context) (restored bool, err error) {
	if gap := g.held.Now() - g.seen; gap > longestGap {
		g.log.Warn("this process was paused, asking Consul for the lock", "for", gap)
		if err := g.verify(ctx); errors.Is(err, lease.ErrLockLost) {
			return false, err
		} else if err != nil {
			g.log.Warn("not refreshing the address: Consul does not answer", "error", err)
			return false, nil
		}
	}
	now, lifetime := g.held.Now(), g.lifetime(g.held)
	if ctx.Err() != nil || lifetime < time.Second {
		return false, nil // the kernel takes the address away at the hold deadline
	}
	restored, err = g.address.Refresh(lifetime)
	g.seen = now
	return restored, err
}

func (g *guard) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	return g.held.Verify(ctx)
}

// heed answers a word from the kernel.
func (g *guard) heed(ctx context.Context, n notice) error {
	if n == addressForeign {
		return fmt.Errorf("%w: another program of this host has taken %s over", netif.ErrForeign, g.cfg.Addr())
	}
	restored, err := g.refresh(ctx)
	if restored {
		g.rebound++
		g.log.Warn("the address was removed by someone else and is bound again", "times", g.rebound)
		g.announcing.again()
	}
	return err
}

// linkChanged announces anew once the link is up or has another MAC, and sets
// a time limit to its being down.
func (g *guard) linkChanged(up bool) {
	switch {
	case up:
		g.carrierLost = nil
		g.announcing.again()
	case g.carrierLost == nil:
		g.log.Warn("the link is down", "interface", g.link.name)
		g.carrierLost = time.After(carrierDebounce)
	}
}

// contested decides on a claim by another station.
func (g *guard) contested(ctx context.Context, claim announcer.Claim) error {
	conflict := &ConflictError{Addr: g.cfg.Addr(), MAC: claim.MAC, Received: claim.Received, Quit: g.cfg.OnConflict == config.ConflictQuit}
	switch g.cfg.OnConflict {
	case config.ConflictExit, config.ConflictQuit:
		return conflict
	case config.ConflictDefend:
		if err := g.verify(ctx); errors.Is(err, lease.ErrLockLost) {
			return err
		} else if err != nil {
			return errors.Join(conflict, err)
		}
		g.announcing.again()
	}
	g.log.Warn("address conflict", "mac", claim.MAC.String(), "on_conflict", string(g.cfg.OnConflict))
	// Claims that come meanwhile wait in the channel, as one.
	g.claims, g.calm = nil, time.After(defendInterval)
	return nil
}

// announcing is a running announcement.
type announcing struct {
	cancel  context.CancelFunc
	restart chan struct{}
	done    sync.WaitGroup
}

func (v *vip) startAnnouncing(ctx context.Context) *announcing {
	ctx, cancel := context.WithCancel(ctx)
	a := &announcing{cancel: cancel, restart: make(chan struct{}, 1)}
	log := v.log
	a.done.Go(func() {
		err := v.wire.Announce(ctx, announcer.Announcement{
			Addr:     v.cfg.Addr(),
			Interval: v.cfg.Announce.Interval,
			Jitter:   v.cfg.Announce.Jitter,
		}, a.restart)
		if err != nil && ctx.Err() == nil {
			log.Error("announcing ended", "error", err)
		}
	})
	return a
}

// again starts the schedule anew.
func (a *announcing) again() {
	select {
	case a.restart <- struct{}{}:
	default:
	}
}

// stop returns once no frame will leave any more.
func (a *announcing) stop() {
	a.cancel()
	a.done.Wait()
}
