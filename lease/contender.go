package lease

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Lock is what to contend for, and how.
type Lock struct {
	Name     string
	Priority int // lower goes first
	// PreemptDelay is how long a better placed member must be there before the lock
	// is transferred to it. Zero means never: a running owner stays.
	PreemptDelay time.Duration
	// Owner is what readers of the lock should know about the holder.
	Owner state.Owner
	// Ineligible is why this process must not take the lock now; nil: it may. While
	// the lock is not held it counts at once: no other member transfers the lock to
	// this process.
	Ineligible error
	// Unfit is why the service behind the lock is not fit here; nil: it is. Then other
	// members go first, whatever their priority, and this process transfers a lock that it
	// holds to one of them. With UnfitIneligible it does not take the lock at all.
	Unfit           error
	UnfitIneligible bool
	// Failing is what does not work here although the lock is held, for people who read the
	// members; nil: everything works.
	Failing error
	// Prepare, if not nil, is called before this process gives a lock away that it serves: by
	// a transfer, as an operator has asked, or because the context of Hold ends. The lock is
	// kept meanwhile, for PrepareTimeout at most: then, and the instant the lock is lost,
	// Prepare's context ends, and it has to return at once. Kept is called if the lock stays
	// here nevertheless, for example because the transfer did not work.
	Prepare        func(ctx context.Context, reason error)
	PrepareTimeout time.Duration
	Kept           func()
	// Dead is the session of a holder whose host does not answer on the wire. While it is
	// on the key, and this process is the best placed of the others whose hosts answer,
	// this process takes the lock from it. Empty: there is none.
	Dead string
	// Logger receives what is logged about the lock; nil: the Keeper's own.
	Logger hclog.Logger
}

// ineligible is why this process must not take the lock now; nil: it may.
func (l Lock) ineligible() error {
	if l.Ineligible == nil && l.UnfitIneligible {
		return l.Unfit
	}
	return l.Ineligible
}

// Contender contends for one lock for as long as this process wants it. It owns
// every fact about the lock that outlives one Hold. Create it with
// [Keeper.Contend]. Its methods are safe for concurrent use, except that there must
// be one Hold at a time.
type Contender struct {
	// Set by Contend, never changed.
	keeper *Keeper
	name   string
	log    hclog.Logger

	wanted latest.Latest[Lock] // set by Set, followed by Hold; a part of the member key

	// Guarded by the mutex of contenders: the rest of the member key.
	held    bool
	heldOff time.Duration // until when the lock is left to others; 0: it is not
	dead    string        // of the wanted lock

	// Owned by the goroutine of Hold.
	written  mark          // our last write to the key
	stranger sighting      // the latest stranger in the lock's record
	last     state.Record  // of the lock, as it was seen last: before its key was deleted, if it was
	taken    takenSighting // the latest take in the lock's record
}

// Contend makes this process a member that can take the lock, until Close. It takes
// the lock only in Hold.
func (k *Keeper) Contend(lock Lock) *Contender {
	c := &Contender{keeper: k, name: lock.Name, log: lock.Logger}
	if c.log == nil {
		c.log = k.log.With("vip", lock.Name)
	}
	k.contenders.change(func(all *contenders) {
		all.want(c, lock)
		all.byName[lock.Name] = c
	})
	return c
}

// Set replaces how to contend for the lock. It counts from now on; while the lock is
// held, a changed owner is written to its record. The lock's name must be the same. Set
// never blocks and ends no hold.
func (c *Contender) Set(lock Lock) {
	c.keeper.contenders.change(func(all *contenders) { all.want(c, lock) })
}

// Close ends the contention. Call it after the last Hold has returned.
func (c *Contender) Close() {
	c.keeper.contenders.change(func(all *contenders) {
		if all.byName[c.name] == c {
			delete(all.byName, c.name)
		}
		all.markDead(c, "")
	})
}

// setHeld notes whether the lock is held. Taking it ends a hold-off.
func (c *Contender) setHeld(held bool) {
	c.keeper.contenders.change(func(*contenders) {
		c.held = held
		if held {
			c.heldOff = 0
		}
	})
}

// holdOff leaves the lock to others until a time on the Keeper's clock; 0 ends that.
func (c *Contender) holdOff(until time.Duration) {
	c.keeper.contenders.change(func(*contenders) { c.heldOff = until })
}

// holdOffLeft is how long the lock is still left to others.
func (c *Contender) holdOffLeft() time.Duration {
	until := c.heldOffUntil()
	if until == 0 {
		return 0
	}
	left := until - c.keeper.now()
	if left <= 0 {
		c.holdOff(0)
	}
	return max(left, 0)
}

func (c *Contender) heldOffUntil() time.Duration {
	c.keeper.contenders.mu.Lock()
	defer c.keeper.contenders.mu.Unlock()
	return c.heldOff
}

// contenders are the locks that this process holds or contends for. It is safe for
// concurrent use.
type contenders struct {
	changes latest.Latest[struct{}] // set after every change of the fields below and of a wanted lock

	mu      sync.Mutex // guards all following fields, and some of each Contender
	byName  map[string]*Contender
	dead    map[string]int // by session: for how many locks its host is dead
	setback setback
	owner   state.Owner // what this process tells the others about itself
	offset  int         // of all priorities
	leaving bool        // this process is about to end
}

// change makes a change and tells keepMember.
func (a *contenders) change(f func(*contenders)) {
	a.mu.Lock()
	f(a)
	a.mu.Unlock()
	a.changes.Set(struct{}{})
}

// want replaces how to contend for a lock. The caller holds mu.
func (a *contenders) want(c *Contender, lock Lock) {
	a.markDead(c, lock.Dead)
	c.wanted.Set(lock)
}

// markDead notes the session whose host is dead for a lock. The caller holds mu.
func (a *contenders) markDead(c *Contender, session string) {
	if a.dead[c.dead]--; a.dead[c.dead] <= 0 {
		delete(a.dead, c.dead)
	}
	if c.dead = session; session != "" {
		a.dead[session]++
	}
}

// isDead reports whether the host of a session is dead, by any lock.
func (a *contenders) isDead(session string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead[session] > 0
}

// member returns this process as a member: its priority for each lock that it holds or
// can take, the others by the reason why it cannot take them, and its own description.
// It also returns whether the process is about to end, and a channel that closes when
// any of these changes.
func (a *contenders) member() (m state.Member, leaving bool, changed <-chan struct{}) {
	_, changed = a.changes.Get()
	a.mu.Lock()
	defer a.mu.Unlock()
	m = state.Member{
		VIPs: map[string]int{}, Ineligible: map[string][]string{}, Unfit: map[string][]string{}, Failing: map[string][]string{},
		Owner: a.owner,
	}
	for name, c := range a.byName {
		lock, _ := c.wanted.Get()
		if c.held && lock.Failing != nil {
			reason := lock.Failing.Error()
			m.Failing[reason] = append(m.Failing[reason], name)
		}
		switch {
		case c.held, lock.ineligible() == nil && c.heldOff == 0:
			m.VIPs[name] = clamp(lock.Priority+a.offset, 0, state.MaxPriority)
			if lock.Unfit != nil {
				m.MarkUnfit(name, lock.Unfit.Error())
			}
		case lock.ineligible() != nil:
			reason := lock.ineligible().Error()
			m.Ineligible[reason] = append(m.Ineligible[reason], name)
		}
	}
	for _, reasons := range []map[string][]string{m.Ineligible, m.Unfit, m.Failing} {
		for _, names := range reasons {
			slices.Sort(names)
		}
	}
	if a.setback.active {
		m.RankLast()
	}
	return m, a.leaving, changed
}

func (a *contenders) has(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.byName[name]
	return ok
}

// Prioritize adds delta to this process's priority for every lock, as long as it
// runs, and returns the sum so far, between -1000 and 1000. The priorities that
// count stay between 0, the best, and 1000.
func (k *Keeper) Prioritize(delta int) (offset int) {
	k.contenders.change(func(a *contenders) {
		a.offset = clamp(a.offset+clamp(delta, -2*state.MaxPriority, 2*state.MaxPriority), -state.MaxPriority, state.MaxPriority)
		offset = a.offset
	})
	k.log.Info("priorities changed", "offset", offset)
	return offset
}

// Describe tells the other members about this process: the fields of owner become
// fields of its member key, which is written whenever they change. See
// [state.Member.Owner].
func (k *Keeper) Describe(owner state.Owner) {
	k.contenders.change(func(a *contenders) { a.owner = owner })
}

// Leave takes this process off the members: no lock is transferred to it any more.
// It goes on holding the locks that it holds. Call it as soon as the process is to
// end, before the contexts of the holds end.
func (k *Keeper) Leave() {
	k.contenders.change(func(a *contenders) { a.leaving = true })
}

func clamp(n, low, high int) int { return min(max(n, low), high) }

// mark is a place in the history of a key: see [state.State].
type mark struct {
	history uint64 // of the State
	index   uint64 // the key's ModifyIndex
}

// shownBy reports whether s is new enough to show the write at m.
func (m mark) shownBy(s *state.State) bool {
	return s.History > m.history || (s.History == m.history && s.Index >= m.index)
}

// sighting is when this process first saw what a record says about a stranger. Its
// own clock counts, because the clocks of two hosts may differ.
type sighting struct {
	contested state.Contested
	at        time.Duration
}

// contestedFor is how long after an encounter with a stranger another one counts as
// its continuation.
const contestedFor = 10 * time.Minute

// see notes what a record says at the time now, and returns it if it still counts.
func (s *sighting) see(contested *state.Contested, now time.Duration) *state.Contested {
	if contested == nil {
		return nil
	}
	if s.contested != *contested {
		*s = sighting{*contested, now}
	}
	return s.recall(now)
}

// recall returns what was seen last, if it still counts.
func (s *sighting) recall(now time.Duration) *state.Contested {
	if s.contested == (state.Contested{}) || now-s.at >= contestedFor {
		return nil
	}
	c := s.contested
	return &c
}
