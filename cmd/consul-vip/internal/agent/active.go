package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
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
	// verifyPause is how long to wait with the next question.
	verifyPause = 200 * time.Millisecond
	// carrierDebounce is how long a carrier may be away.
	carrierDebounce = 500 * time.Millisecond
	// defendInterval keeps a flood of claims from becoming a flood of ours.
	defendInterval = time.Second
	// rebindLimit removals by someone else within rebindWindow are no accident.
	rebindLimit  = 5
	rebindWindow = time.Minute
)

// listener hears claims on an address: announcer.Listener.
type listener interface {
	Claims() <-chan announcer.Claim
	Close()
}

// active serves while the lock is held. Its fields belong to the goroutine that
// runs it, but for seen.
type active struct {
	*vip
	held       hold
	address    bound
	announcing *announcing

	seen        atomic.Int64           // when the hold was last known to be good, on its clock
	until       time.Duration          // when the kernel takes the address away, on the same clock
	claims      <-chan announcer.Claim // nil while calm is awaited
	calm        <-chan time.Time
	carrierLost <-chan time.Time
	rebound     []time.Duration // when it was bound again, on the hold's clock
}

// run refreshes the address's lifetime, heeds claims, the link and the kernel,
// and returns nil when ctx ends.
func (a *active) run(ctx context.Context, claims <-chan announcer.Claim) error {
	a.claims = claims
	link, changed := a.link.state.Get()
	if !link.up {
		a.onLinkChanged(link.up)
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
			a.claims, a.calm = claims, nil
		case <-a.missing:
			err = a.refresh(ctx)
		case <-a.taken:
			err = markUnclean(a.address.Taken()) // or was it, before it was ours
		case <-tick.C:
			err = a.refresh(ctx)
		case <-changed:
			link, changed = a.link.state.Get()
			a.onLinkChanged(link.up)
		case <-a.carrierLost:
			err = errCarrier
		}
		if err != nil {
			return err
		}
	}
}

// paused says for how long this process was not there to look at the clock, or
// 0 if it was all the time.
func (a *active) paused() time.Duration {
	if gap := a.held.Now() - time.Duration(a.seen.Load()); gap > longestGap {
		return gap
	}
	return 0
}

// mayAnnounce is asked before every announcement.
func (a *active) mayAnnounce() bool { return a.paused() == 0 && a.held.Remaining() > 0 }

// refresh gives the address another lifetime, and puts it back if it is
// missing. After a pause it first asks Consul whether the lock is still ours:
// the check may have run out meanwhile and the address be another's.
func (a *active) refresh(ctx context.Context) error {
	if a.held.Remaining() <= 0 {
		return errDeadline
	}
	if gap := a.paused(); gap > 0 {
		a.log.Warn("this process was paused, asking Consul for the lock", "for", gap.String())
		err := a.verify(ctx, a.held)
		switch {
		case ctx.Err() != nil:
			return nil // Hold knows why
		case errors.Is(err, lease.ErrLockLost):
			return err
		case err != nil:
			a.log.Warn("not refreshing the address: Consul does not answer", "error", err)
			return nil
		}
	}
	now, lifetime := a.held.Now(), a.lifetime(a.held)
	switch {
	case ctx.Err() != nil:
		return nil
	case lifetime >= time.Second:
	case now < a.until:
		return nil // there is no whole second left to refresh for
	default:
		return errDeadline // and the kernel has taken the address away
	}
	restored, err := a.address.Refresh(lifetime)
	if err != nil {
		return err
	}
	a.seen.Store(int64(now))
	a.until = now + lifetime
	if restored {
		return a.onRemovedByOthers(now)
	}
	return nil
}

// onRemovedByOthers is told when the address had to be bound again.
func (a *active) onRemovedByOthers(now time.Duration) error {
	a.rebound = append(a.rebound, now)
	if n := len(a.rebound); n >= rebindLimit && now-a.rebound[n-rebindLimit] < rebindWindow {
		return fmt.Errorf("%w: it was removed %d times within %s", ErrAddressLost, rebindLimit, rebindWindow)
	}
	a.log.Warn("the address was removed by someone else and is bound again", "times", len(a.rebound))
	a.announcing.restart.Set()
	return nil
}

// onLinkChanged announces anew once the link is up or has another MAC, and sets
// a time limit to its being down.
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

// announcing is a running announcement.
type announcing struct {
	cancel  context.CancelFunc
	restart latest.Wake
	done    sync.WaitGroup
}

func (v *vip) announce(ctx context.Context, mayAnnounce func() bool) *announcing {
	ctx, cancel := context.WithCancel(ctx)
	a := &announcing{cancel: cancel, restart: latest.NewWake()}
	log := v.log
	a.done.Go(func() {
		err := v.wire.Announce(ctx, announcer.Announcement{
			Addr:        v.cfg().Addr(),
			Schedule:    func() announcer.Schedule { return announcer.Schedule(v.cfg().Announce) },
			MayAnnounce: mayAnnounce,
		}, a.restart)
		if err != nil && ctx.Err() == nil {
			log.Error("announcing ended", "error", err)
		}
	})
	return a
}

// stop returns once no frame will leave any more.
func (a *announcing) stop() {
	a.cancel()
	a.done.Wait()
}
