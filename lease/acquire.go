package lease

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

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

// acquire waits until this process has the lock. It returns false when ctx has
// ended.
func (c *Contender) acquire(ctx context.Context) (*Held, bool) {
	k := c.keeper
	w := &waiting{Contender: c, failures: failurelog.New(c.log, "acquiring the lock")}
	turn := time.NewTimer(0)
	defer turn.Stop()
	for ctx.Err() == nil {
		v, seen := k.latest.Get()
		s, replaced := k.session.Get()
		lock, altered := c.wanted.Get()
		if v.State != nil && s != nil && c.written.shownBy(v.State) {
			h, wait := w.consider(ctx, v, s, lock)
			if h != nil {
				return h, true
			}
			if wait == 0 {
				continue // it has tried
			}
			turn.Reset(wait)
		}
		select {
		case <-seen:
		case <-replaced:
		case <-altered:
		case <-turn.C:
		case <-ctx.Done():
		}
	}
	return nil, false
}

// waiting is one wait for one lock. It belongs to one goroutine.
type waiting struct {
	*Contender
	failures *failurelog.Log
	pause    consul.Backoff

	holder     string        // the session last seen on the key
	ineligible string        // the reason last logged for not contending
	known      bool          // the lock was seen held, so this is no fresh start
	free       bool          // whether the key is free
	index      uint64        // of the free key
	from       time.Duration // when it was first seen free, or when to try again

	attempt attempt // to take the lock from a dead host

	contested *state.Contested // what the State that is considered says of a stranger
}

// forever is how long to wait for a change.
const forever = time.Hour

// consider takes the lock if it is this process's turn, as v shows it. Otherwise it
// returns how long to wait for anything else than a change; 0 if it has tried and the
// State is to be looked at again.
func (w *waiting) consider(ctx context.Context, v observed, s *session, lock Lock) (*Held, time.Duration) {
	l := v.Locks[w.name] // in a filtered list it may be missing; then the write is refused
	ineligible := w.ineligibleFor(v.State, lock)
	heldOff := w.holdOffLeft()
	w.logHolder(l)
	if lock.ineligible() == nil { // else the caller knows, and perhaps for many locks at once
		w.logIneligible(ineligible, heldOff)
	}
	w.contested = w.stranger.see(l.Record.Contested, w.keeper.now())
	if l.Index != 0 {
		w.last = l.Record
	}
	if l.Session != "" || ineligible != nil || heldOff > 0 {
		w.free, w.known = false, true
	}
	switch {
	case l.Session == s.id:
		return w.underOurSession(ctx, v, s, l, lock, ineligible)
	case ineligible != nil:
		return nil, forever
	case heldOff > 0:
		return nil, heldOff
	case l.Session != "":
		return w.fromOther(ctx, v, s, l, lock)
	}
	if wait := w.turn(v.State, s, l); wait > 0 {
		return nil, wait
	}
	return w.take(ctx, s, l, w.held(v, s, w.orphaned(v.State, l), lock))
}

// ineligibleFor is why this process must not take the lock now, or nil if it may.
func (w *waiting) ineligibleFor(s *state.State, lock Lock) error {
	if err := lock.ineligible(); err != nil {
		return err
	}
	return s.Ineligible(w.name, w.keeper.node)
}

// turn is how long to wait before taking the free lock l: better placed members go
// first, and a contested address is left alone for a while. The wait counts from when
// the lock was first seen free, however often the State changes meanwhile; but the
// position may change with it.
func (w *waiting) turn(v *state.State, s *session, l state.Lock) time.Duration {
	now := w.keeper.now()
	if !w.free || w.index != l.Index {
		w.free, w.index, w.from = true, l.Index, now
		if backoff := w.backoff(v, l); backoff > 0 {
			w.log.Warn("leaving a contested address alone", "mac", l.Record.Contested.MAC, "tries", l.Record.Contested.Tries, "for", backoff.String())
		}
	}
	from, delay := w.from+w.backoff(v, l), positionDelay
	if !w.known {
		from, delay = max(from, s.settled()), freshDelay
	}
	return from + time.Duration(v.Position(w.name, w.keeper.node))*delay - now
}

// orphaned is what the record of the free lock l means for the next owner. A key that
// was deleted tells nothing. Then the previous owners are those of the last record that
// this process has seen, and every other member may have had the lock since.
func (w *waiting) orphaned(v *state.State, l state.Lock) state.Record {
	if l.Index != 0 || w.last.State == state.RecordUnknown {
		return l.Record.Orphaned()
	}
	return w.last.Deleted(slices.DeleteFunc(slices.Sorted(maps.Keys(v.Members)), func(node string) bool { return node == w.keeper.node }))
}

// backoff is how long to leave a contested address alone. A later pin to this node
// is an operator's decision to try at once.
func (w *waiting) backoff(v *state.State, l state.Lock) time.Duration {
	pin := v.Pins[w.name]
	if l.Record.State != state.RecordContested || (pin.Node == w.keeper.node && pin.Index > l.Index) {
		return 0
	}
	return l.Record.Contested.Backoff()
}

// logIneligible logs a reason for not contending once.
func (w *waiting) logIneligible(reason error, heldOff time.Duration) {
	text := ""
	switch {
	case reason != nil:
		text = reason.Error()
	case heldOff > 0:
		text = state.ErrRequested.Error()
	}
	switch {
	case text == w.ineligible:
		return
	case text == "":
		w.log.Info("eligible again")
	default:
		w.log.Warn("not eligible", "reason", text)
	}
	w.ineligible = text
}

// logHolder logs each holder of the lock once.
func (w *waiting) logHolder(l state.Lock) {
	if l.Session == w.holder {
		return
	}
	w.holder = l.Session
	switch {
	case l.Session == "":
	case l.Record.Session == l.Session:
		w.log.Info("another node holds the lock", "node", l.Record.Node)
	default:
		w.log.Info("another program holds the lock", "session", l.Session)
	}
}

// underOurSession takes a lock that v shows as l under our session. A lock that was
// transferred to us is ours at once, and its record is written while the previous
// owner is awaited. Any other is the trace of a write whose answer was lost, or of
// another program: it is taken by a write of our own.
func (w *waiting) underOurSession(ctx context.Context, v observed, s *session, l state.Lock, lock Lock, ineligible error) (*Held, time.Duration) {
	returned := l.Record.Hops > 0 && l.Record.At != nil // by a member that could not take it
	switch {
	case ineligible == nil && w.isTaken(v, s, l):
		return w.foundTaken(v, s, l, lock), 0
	case !l.Record.TransferredTo(w.keeper.node) && ineligible == nil:
		// Our own record may be the trace of an earlier try of ours. It may also come from
		// a restored snapshot, and others may have had the lock meanwhile: it proves nothing.
		previous := l.Record
		if previous.Session == s.id {
			previous = state.Record{Before: previous.Before, Unheard: previous.Unheard}
		}
		h := w.held(v, s, previous, lock)
		if l.Record.Session == s.id && l.Record.TookFrom != "" {
			h.takenFrom(l.Record.TookFrom)
		}
		h.record.Nonce = newNonce() // an equal record would not move the key's index
		return w.take(ctx, s, l, h)
	case ineligible == nil || (returned && lock.ineligible() == nil):
		h := w.held(v, s, l.Record, lock)
		h.written.index = l.Index
		h.known.Set(v.known)
		return h, 0
	}
	w.forward(ctx, v, s, l, ineligible)
	return nil, 0
}

// take acquires the lock, which was seen as l, for h by a write of our own: only if
// the key still is as it was seen. A blind acquisition could slip past the end of
// another's session, and past its record. It returns nil and the time to wait if that
// did not work.
func (w *waiting) take(ctx context.Context, s *session, l state.Lock, h *Held) (*Held, time.Duration) {
	k := w.keeper
	key := k.keys.Lock(w.name)
	sent := k.now()
	index, err := k.consul.Commit(ctx, consul.Unchanged(key, l.Index), consul.Acquire(key, h.record.Encode(), s.id))
	switch {
	case err == nil:
		w.failures.Record(nil)
		return h.taken(index, sent, k.now()-sent), 0
	case ctx.Err() != nil:
		// If it was acquired all the same, the end of the session releases it.
		return nil, forever
	case errors.Is(err, consul.ErrConflict):
		// Another member was faster, which the watch is about to show, or the key is
		// under the lock-delay of a foreign session, which only time shows.
		w.log.Debug("lock not acquired", "error", err)
		again := consul.Jitter(2 * time.Second)
		w.from = k.now() + again
		return nil, again
	}
	w.failures.Record(err)
	w.pause.Wait(ctx)
	return w.readBack(ctx, s, h, sent), 0
}

// readBack finds out whether h was acquired by a write sent then, which only Consul's
// leader knows.
func (w *waiting) readBack(ctx context.Context, s *session, h *Held, wrote time.Duration) *Held {
	k := w.keeper
	for s.ctx.Err() == nil {
		sent := k.now()
		l, err := k.consul.ReadLock(ctx, k.keys.Lock(w.name))
		w.failures.Record(err)
		if err == nil {
			w.pause.Reset()
			if l.Session == s.id && l.Record.Same(h.record) {
				return h.taken(l.Index, sent, k.now()-wrote)
			}
			return nil
		}
		if !w.pause.Wait(ctx) {
			break
		}
	}
	return nil
}

// taken completes a lock whose record was written at index, by a write that took so
// long. The request that showed it was sent then.
func (h *Held) taken(index uint64, sent, took time.Duration) *Held {
	h.recorded, h.written.index, h.seen, h.Committed = true, index, max(h.seen, sent), took
	h.known.Set(sent)
	return h
}

// held prepares the hold of a lock with this record, as v shows it.
func (w *waiting) held(v observed, s *session, previous state.Record, lock Lock) *Held {
	k := w.keeper
	before := previous.MayAnswer()
	return &Held{
		Previous: previous, Before: before, Contested: w.contested,
		contender: w.Contender, keeper: k, session: s, log: w.log,
		bound: make(chan struct{}), written: mark{history: v.History}, seen: v.sent,
		record: state.Record{
			State: state.RecordHeld, Node: k.node, Owner: lock.Owner, Since: wallClock(),
			Session: s.id, TTL: k.cfg.SessionTTL.String(), Version: k.cfg.Version,
			Before: before, Contested: w.contested, Unheard: v.StillUnheard(previous.Unheard),
		},
	}
}
