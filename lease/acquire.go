package lease

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/internal/failurelog"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// A member waits positionDelay for each member that is better placed before it
// contends, so that the best placed one gets the lock: several times the duration
// of a commit on a busy cluster. It costs time only where the better ones are
// members, but dead. At a fresh start, when everything is contended for at once, an
// even spread is worth more than speed, and the wait is freshDelay.
const (
	positionDelay = 100 * time.Millisecond
	freshDelay    = 300 * time.Millisecond
)

// acquire returns nil when ctx has ended.
func (k *Keeper) acquire(ctx context.Context, lock Lock) *Held {
	c := k.newContention(lock)
	turn := time.NewTimer(0)
	defer turn.Stop()
	for ctx.Err() == nil {
		v, seen := k.latest.Get()
		s, replaced := k.session.Get()
		if v.State != nil && s != nil {
			l := v.Locks[c.name]
			if l.Session == s.id {
				if h := c.underOurSession(ctx, l, s); h != nil {
					return h
				}
			}
			wait, due := c.consider(v.State, s)
			if due && wait <= 0 {
				if h := c.try(ctx, l, s); h != nil {
					return h
				}
				continue
			}
			if due {
				turn.Reset(wait)
			}
		}
		select {
		case <-seen:
		case <-replaced:
		case <-turn.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// contention is one wait for one lock. It belongs to one goroutine.
type contention struct {
	keeper   *Keeper
	name     string
	log      hclog.Logger
	failures *failurelog.Log
	pause    consul.Backoff

	holder     string        // the session last seen on the key
	ineligible string        // the reason last logged for not contending
	heldOff    time.Duration // when it may contend again after a requested release; 0: now
	previous   state.Record  // of the key when it was last seen free
	known      bool          // the lock was seen held, so this is no fresh start
	free       bool          // whether the key is free
	index      uint64        // of the free key
	from       time.Duration // when it was first seen free, or when to try again
}

func (k *Keeper) newContention(lock Lock) *contention {
	log := lock.Logger
	if log == nil {
		log = k.log.With("vip", lock.Name)
	}
	return &contention{
		keeper: k, name: lock.Name, log: log, failures: failurelog.New(log, "acquiring the lock"),
		heldOff: k.desired.heldOffUntil(lock.Name),
	}
}

// consider says how long to wait before trying to acquire the lock, if it is free
// in v: better placed members go first. The wait counts from when the lock was
// first seen free, however often the State changes meanwhile; but the position may
// change with it.
func (c *contention) consider(v *state.State, s *session) (wait time.Duration, due bool) {
	k := c.keeper
	l := v.Locks[c.name]
	heldOff := c.holdOffLeft()
	ineligible := v.Ineligible(c.name, k.node)
	if ineligible == nil && heldOff > 0 {
		ineligible = state.ErrRequested
	}
	c.logHolder(l)
	c.logIneligible(ineligible)
	if l.Session != "" || ineligible != nil {
		c.free, c.known = false, true
		return heldOff, heldOff > 0
	}
	if !c.free || c.index != l.Index {
		c.free, c.index, c.previous, c.from = true, l.Index, l.Record.Orphaned(), k.now()
	}
	from, delay := c.from, positionDelay
	if !c.known {
		from, delay = max(from, s.settled()), freshDelay
	}
	position := v.Position(c.name, k.node)
	return from + time.Duration(position)*delay - k.now(), true
}

// logIneligible logs a reason for not contending once.
func (c *contention) logIneligible(reason error) {
	text := ""
	if reason != nil {
		text = reason.Error()
	}
	switch {
	case text == c.ineligible:
		return
	case text == "":
		c.log.Info("eligible again")
	default:
		c.log.Warn("not eligible", "reason", text)
	}
	c.ineligible = text
}

// logHolder logs each holder of the lock once.
func (c *contention) logHolder(l state.Lock) {
	if l.Session == c.holder {
		return
	}
	c.holder = l.Session
	switch {
	case l.Session == "":
	case l.Record.Session == l.Session:
		c.log.Info("another node holds the lock", "node", l.Record.Node)
	default:
		c.log.Info("another program holds the lock", "session", l.Session)
	}
}

// holdOffLeft is how long the lock is still left to others after a requested
// release.
func (c *contention) holdOffLeft() time.Duration {
	if c.heldOff == 0 {
		return 0
	}
	left := c.heldOff - c.keeper.now()
	if left <= 0 {
		c.heldOff = 0
		c.keeper.desired.endHoldOff(c.name)
	}
	return max(left, 0)
}

// try acquires the lock, which was seen as l without a session. It returns nil with
// the time of the next try set.
func (c *contention) try(ctx context.Context, l state.Lock, s *session) *Held {
	k := c.keeper
	key := k.keys.Lock(c.name)
	// Only if the key still is as it was seen: a blind acquisition could slip past
	// the end of another's session, and past its record.
	h := c.held(s, 0, c.previous)
	h.known = k.now()
	index, err := k.consul.Commit(ctx, consul.Unchanged(key, l.Index), consul.Acquire(key, h.record.Encode(), s.id))
	switch {
	case err == nil:
		c.failures.Record(nil)
		h.index.Store(index)
		k.taken.Store(c.name, index)
		return h
	case ctx.Err() != nil:
		// If it was acquired all the same, the end of the session releases it.
		return nil
	case errors.Is(err, consul.ErrConflict):
		// Another member was faster, which the watch is about to show, or the key is
		// under the lock-delay of a foreign session, which only time shows.
		c.log.Debug("lock not acquired", "error", err)
		c.from = k.now() + consul.Jitter(2*time.Second)
		return nil
	}
	c.failures.Record(err)
	c.pause.Wait(ctx)
	return c.readBack(ctx, s)
}

// readBack finds out whether the lock is ours, which only Consul's leader knows.
func (c *contention) readBack(ctx context.Context, s *session) *Held {
	for s.ctx.Err() == nil {
		asked := c.keeper.now()
		l, err := c.keeper.consul.ReadLock(ctx, c.keeper.keys.Lock(c.name))
		c.failures.Record(err)
		if err == nil {
			c.pause.Reset()
			if l.Session != s.id {
				return nil
			}
			return c.found(l, s, asked)
		}
		if !c.pause.Wait(ctx) {
			break
		}
	}
	return nil
}

// underOurSession takes a lock that a State shows under our session. One that was
// transferred to us since we last had it is reliable; otherwise it may be an old
// State, or an earlier try whose answer was lost.
func (c *contention) underOurSession(ctx context.Context, l state.Lock, s *session) *Held {
	last, _ := c.keeper.taken.Load(c.name)
	if index, _ := last.(uint64); l.Record.TransferredTo(c.keeper.node) && l.Index > index {
		// A State may be as old as a pause. The previous owner's frame, or the probes,
		// will tell.
		return c.found(l, s, c.keeper.now())
	}
	return c.readBack(ctx, s)
}

// found takes l, which was under our session at the time known.
func (c *contention) found(l state.Lock, s *session, known time.Duration) *Held {
	previous := c.previous
	if l.Record.TransferredTo(c.keeper.node) {
		previous = l.Record
	}
	h := c.held(s, l.Index, previous)
	h.known = known
	return h
}

func (c *contention) held(s *session, index uint64, previous state.Record) *Held {
	k := c.keeper
	now := time.Now().UTC().Truncate(time.Second)
	lock, _ := k.desired.lock(c.name)
	h := &Held{
		Previous: previous,
		keeper:   k,
		session:  s,
		name:     c.name,
		log:      c.log,
		serving:  make(chan struct{}),
		record: state.Record{
			State: state.RecordHeld, Node: k.node, Owner: lock.Owner, Since: &now,
			Session: s.id, TTL: k.cfg.SessionTTL.String(), Version: k.cfg.Version,
		},
	}
	if index != 0 {
		h.index.Store(index)
		k.taken.Store(c.name, index)
	}
	return h
}
