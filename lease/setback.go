package lease

import (
	"fmt"
	"time"

	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	firstSetback   = 10 * time.Second
	longestSetback = 10 * time.Minute
	// calmTime without another setback makes the next one the first again.
	calmTime = 10 * time.Minute
)

// setback is the time after a lock was taken from this process because its host did not
// answer on the wire. Meanwhile it ranks behind all others, and takes no lock from
// another host, for it may be the one that hears nobody. It only orders: the process
// remains a member and, if there is no other, the successor.
type setback struct {
	active bool
	until  time.Duration // the end of the latest one
	length time.Duration // of the latest one; 0: there was none
}

// begin notes at the time now that a lock was taken, and reports whether a setback
// begins. Locks taken during a setback belong to it, and make it end later.
func (s *setback) begin(now time.Duration) (begun bool) {
	begun = !s.active
	switch {
	case !begun:
	case s.length == 0 || now >= s.until+calmTime:
		s.length = firstSetback
	default:
		s.length = min(2*s.length, longestSetback)
	}
	s.active, s.until = true, now+s.length
	return begun
}

// look returns how long the setback lasts, and whether this look has found its end.
func (s *setback) look(now time.Duration) (left time.Duration, ended bool) {
	if !s.active {
		return 0, false
	}
	s.active = now < s.until
	return max(s.until-now, 0), !s.active
}

// setBack begins a setback, for this reason.
func (k *Keeper) setBack(reason error) {
	k.setbackLeft() // the one before may be over
	now := k.now()  // outside the mutex: a paused process must not hold it
	var begun bool
	var length time.Duration
	k.contenders.change(func(a *contenders) {
		begun = a.setback.begin(now)
		length = a.setback.length
	})
	if begun {
		k.log.Warn("ranking last, and taking no locks from other hosts", "for", length.String(), "reason", reason)
	}
}

// setbackLeft is how long the setback lasts; 0: there is none.
func (k *Keeper) setbackLeft() time.Duration {
	a, now := &k.contenders, k.now()
	a.mu.Lock()
	left, ended := a.setback.look(now)
	a.mu.Unlock()
	if ended {
		k.log.Info("ranking by priority again")
		a.changes.Set(struct{}{})
	}
	return left
}

// takenByOther is the end of the hold of a lock that another member has taken from this
// host, as l shows it, and whether that is so.
func (h *Held) takenByOther(l state.Lock) (End, bool) {
	r := l.Record
	if r.TookFrom != h.keeper.node || r.Session == h.session.id {
		return End{}, false
	}
	return End{Kind: Taken, Reason: fmt.Errorf("taken over by %s: this host did not answer on the wire", r.Node)}, true
}
