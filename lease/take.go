package lease

import (
	"context"
	"errors"
	"time"

	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// takePause is the pause after a try that Consul has answered at once: servers that
	// take a dead one for their leader refuse every request within a millisecond. It has
	// no jitter, so that the locks of one process, whose tries fail together, are tried
	// again together, in few transactions.
	takePause = 100 * time.Millisecond
	// takenFor is how long a lock that was taken is not taken again. The new owner has to
	// bind the address and to be heard; and a host that hears nobody must not rob a whole
	// segment in turn.
	takenFor = 5 * time.Second
)

// attempt is the latest try to take a lock from a dead host. Every try is conditional on
// the index that the State showed, so of all tries at one index at most one is carried
// out, whenever Consul gets it.
type attempt struct {
	at       mark          // how the key was seen
	previous state.Record  // what its record means for the next owner
	sent     time.Duration // when the first try at this index was sent
	again    time.Duration // not before then is there another one
}

// takenSighting is when this process first saw that a lock was taken by its holder.
type takenSighting struct {
	session string // the holder's; empty: it has not taken the lock
	since   time.Time
	at      time.Duration
}

// see notes a record at the time now, and returns for how long the lock must not be
// taken.
func (s *takenSighting) see(r state.Record, now time.Duration) time.Duration {
	if r.TookFrom == "" {
		*s = takenSighting{}
		return 0
	}
	var since time.Time
	if r.Since != nil {
		since = *r.Since
	}
	if s.session != r.Session || !s.since.Equal(since) {
		*s = takenSighting{r.Session, since, now}
	}
	return s.at + takenFor - now
}

// fromOther takes the lock, which another session holds as v shows it in l, if that
// session's host is dead and this process is the best placed of those that live.
// Otherwise it returns how long to wait for anything else than a change; 0 if the State
// is to be looked at again.
func (w *waiting) fromOther(ctx context.Context, v observed, s *session, l state.Lock, lock Lock) (*Held, time.Duration) {
	now := w.keeper.now()
	safe := w.taken.see(l.Record, now)
	if lock.Dead == "" || lock.Dead != l.Session || l.Record.Session != l.Session || !w.best(v.State, s, l) {
		return nil, forever
	}
	if at := (mark{v.History, l.Index}); w.attempt.at != at {
		w.attempt = attempt{at: at, previous: l.Record.Orphaned()}
	}
	if wait := max(safe, w.keeper.setbackLeft(), w.attempt.again-now); wait > 0 {
		return nil, wait
	}
	return w.takeFrom(ctx, v, s, l, lock)
}

// best reports whether this process is the best placed candidate for a lock of another
// node, of those whose hosts are not known to be dead.
func (w *waiting) best(v *state.State, s *session, l state.Lock) bool {
	dead := func(session string) bool { return session != s.id && w.keeper.contenders.isDead(session) }
	to, ok := v.Survivor(w.name, l.Record.Node, dead)
	return ok && to.Session == s.id
}

// InLine returns how many other members would take a lock from its holder, as s shows
// it, rather than this process. It returns false if this process is not a candidate.
func (k *Keeper) InLine(s *state.State, name string) (position int, ok bool) {
	own, _ := k.session.Get()
	if own == nil {
		return 0, false
	}
	return s.InLine(name, s.Locks[name].Record.Node, own.id)
}

// takeFrom takes the lock from a dead host. Consul lets any client unlock a key for any
// session, and no lock-delay follows. The deadline of the try is in the Client, so that
// a try that waits for its turn does not lose it.
func (w *waiting) takeFrom(ctx context.Context, v observed, s *session, l state.Lock, lock Lock) (*Held, time.Duration) {
	k := w.keeper
	h := w.held(v, s, w.attempt.previous, lock)
	h.takenFrom(l.Record.Node)
	h.record.Unheard = v.Unheard(l.Record.Node)
	key, value := k.keys.Lock(w.name), h.record.Encode()
	sent := k.now()
	if w.attempt.sent == 0 {
		w.attempt.sent = sent
	}
	index, err := k.consul.Take(ctx, func() bool { return w.stillDead(l.Session) },
		consul.Unchanged(key, l.Index), consul.Release(key, value, l.Session), consul.Acquire(key, value, s.id))
	answered := k.now()
	switch {
	case err == nil:
		w.failures.Record(nil)
		w.log.Warn("lock taken from a host that does not answer", "node", h.TookFrom, "commit", (answered - sent).String())
		h.Answered = true
		return h.taken(index, sent, answered-sent), 0
	case ctx.Err() != nil:
		return nil, forever
	case errors.Is(err, consul.ErrConflict):
		// The key has changed, which the watch may hear of late: its query may hang on a
		// dead leader. Or a permission is missing.
		w.log.Debug("lock not taken", "error", err)
		k.reread.Set()
	case !errors.Is(err, consul.ErrUnsent):
		w.failures.Record(err)
		if answered-sent >= takePause {
			return nil, 0
		}
	}
	w.attempt.again = answered + takePause
	return nil, takePause
}

// stillDead reports whether a session is still to lose the lock.
func (w *waiting) stillDead(session string) bool {
	lock, _ := w.wanted.Get()
	return lock.Dead == session
}

// isTaken reports whether a lock that v shows as l under our session is so because a try
// to take it was carried out, although its answer is lost.
func (w *waiting) isTaken(v observed, s *session, l state.Lock) bool {
	a := w.attempt
	return a.sent != 0 && a.at.history == v.History && l.Index > a.at.index &&
		l.Record.TookFrom != "" && l.Record.Session == s.id
}

// foundTaken is the hold of such a lock. No other member can have had it since the try,
// which was conditional on the index before; and nothing of ours that is still under way
// is conditional on this one. So no other write is needed.
func (w *waiting) foundTaken(v observed, s *session, l state.Lock, lock Lock) *Held {
	a := w.attempt
	h := w.held(v, s, a.previous, lock)
	h.record, h.recorded, h.written.index = l.Record, true, l.Index
	h.TookFrom, h.Committed = l.Record.TookFrom, w.keeper.now()-a.sent
	h.known.Set(v.known)
	w.log.Warn("lock taken from a host that does not answer, confirmed late", "node", h.TookFrom)
	return h
}

// takenFrom notes from which node the lock is taken, in the record too: it tells the
// node's owner that the lock is not lost to an unknown client.
func (h *Held) takenFrom(node string) {
	h.TookFrom, h.record.TookFrom, h.record.Reason = node, node, state.ReasonHostDead
}
