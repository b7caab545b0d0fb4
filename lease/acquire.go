package lease

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// acquire returns nil when ctx ended.
func (k *Keeper) acquire(ctx context.Context, name string) *Held {
	log := k.log.With("vip", name, "state", "standby")
	c := contention{
		keeper: k, name: name, log: log, outage: outage{log: log, what: "acquiring the lock"},
		back: k.roster.awayUntil(name),
	}
	turn := time.NewTimer(0)
	defer turn.Stop()
	for ctx.Err() == nil {
		v, s, changed := k.board.read()
		if v != nil && s != nil {
			l := v.locks[name]
			if l.session == s.id {
				if h := c.given(ctx, l, s); h != nil {
					return h
				}
			}
			wait, due := c.consider(v, s)
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
		case <-changed:
		case <-turn.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// contention is one wait for one lock. It belongs to one goroutine.
type contention struct {
	keeper *Keeper
	name   string
	log    hclog.Logger
	outage outage
	pause  backoff

	holder      string        // the session last seen on the key
	bar         string        // why this process was last kept from contending
	back        time.Duration // when it may contend again after a release on request; 0: now
	predecessor Record        // of the key when it was last seen free
	known       bool          // the lock was seen held, so this is no fresh start
	free        bool          // whether the key is free
	index       uint64        // of the free key
	from        time.Duration // when it was first seen free, or when to try again
}

// consider says after what wait to try to acquire the lock, if it is free in v:
// it is left to better placed members first. The wait counts from when the lock
// was first seen free, however often the view changes meanwhile; but who is
// better placed may change with it.
func (c *contention) consider(v *view, s *session) (wait time.Duration, due bool) {
	k := c.keeper
	l := v.locks[c.name]
	back := c.standingBack()
	bar := c.barred(v, back)
	c.logHolder(l)
	c.logBar(bar)
	if l.session != "" || bar != "" {
		c.free, c.known = false, true
		return back, back > 0
	}
	if !c.free || c.index != l.index {
		c.free, c.index, c.predecessor, c.from = true, l.index, l.record.orphaned(), k.now()
	}
	from, delay := c.from, rankDelay
	if !c.known {
		from, delay = max(from, s.settled()), freshDelay
	}
	rank := v.ranks.free().place(c.name, k.node)
	return from + time.Duration(rank)*delay - k.now(), true
}

// barred says why this process must not contend, whoever has the lock, or "".
func (c *contention) barred(v *view, back time.Duration) string {
	node, pin := c.keeper.node, v.pins[c.name]
	switch {
	case v.drained[node]:
		return errDrained.Error()
	case pin == nobody:
		return errNobody.Error()
	case pin != "" && pin != node:
		return "it is pinned to " + pin
	case back > 0:
		return errRequested.Error()
	}
	return ""
}

// logBar says once what keeps this process from contending.
func (c *contention) logBar(bar string) {
	if bar == c.bar {
		return
	}
	c.bar = bar
	if bar == "" {
		c.log.Info("contending again")
		return
	}
	c.log.Warn("not contending", "reason", bar)
}

// logHolder says who has the lock, once for each.
func (c *contention) logHolder(l lockState) {
	if l.session == c.holder {
		return
	}
	c.holder = l.session
	switch {
	case l.session == "":
	case l.record.Session == l.session:
		c.log.Info("another node has the lock", "node", l.record.Node)
	default:
		c.log.Info("another program has the lock", "session", l.session)
	}
}

// standingBack is for how long the lock is still left to others after it was
// given up on request.
func (c *contention) standingBack() time.Duration {
	if c.back == 0 {
		return 0
	}
	left := c.back - c.keeper.now()
	if left <= 0 {
		c.back = 0
		c.keeper.roster.comeBack(c.name)
	}
	return max(left, 0)
}

// try acquires the lock, which was seen as l without a session, or returns nil
// with the time of the next try set.
func (c *contention) try(ctx context.Context, l lockState, s *session) *Held {
	k := c.keeper
	key := k.lockKey(c.name)
	// Only if it still is what the view showed: a blind acquisition could slip
	// past the end of another's session, and past its record.
	h := c.held(s, 0, c.predecessor)
	h.known = k.now()
	index, err := k.consul.commit(ctx, unchanged(key, l.index), lockPair(api.KVLock, key, h.record, s.id))
	switch {
	case err == nil:
		c.outage.ok()
		h.index.Store(index)
		k.taken.Store(c.name, index)
		return h
	case ctx.Err() != nil:
		// Had it happened after all, the end of the session undoes it.
		return nil
	case errors.Is(err, errConflict):
		// Somebody was faster, as the watch will show, or the key is under the
		// lock-delay of a foreign session, which only time shows.
		c.log.Debug("did not get the lock", "error", err)
		c.from = k.now() + jitter(2*time.Second)
		return nil
	}
	c.outage.failed(err)
	c.pause.wait(ctx)
	return c.readBack(ctx, s)
}

// readBack settles what only Consul's leader knows: whether the lock is ours.
func (c *contention) readBack(ctx context.Context, s *session) *Held {
	for s.ctx.Err() == nil {
		asked := c.keeper.now()
		pair, err := c.keeper.consul.read(ctx, c.keeper.lockKey(c.name))
		if err == nil {
			c.outage.ok()
			c.pause.reset()
			if pair == nil || pair.Session != s.id {
				return nil
			}
			return c.found(lockState{pair.Session, pair.ModifyIndex, ParseRecord(pair.Value)}, s, asked)
		}
		c.outage.failed(err)
		if !c.pause.wait(ctx) {
			break
		}
	}
	return nil
}

// given takes a lock that the view shows under our session. One that was handed
// to us since we last had it can be believed in; else it may be an old view, or
// an earlier try that we did not hear the end of.
func (c *contention) given(ctx context.Context, l lockState, s *session) *Held {
	last, _ := c.keeper.taken.Load(c.name)
	if index, _ := last.(uint64); l.record.handedTo(c.keeper.node) && l.index > index {
		// A view may be as old as a pause. The giver's word, or the wire, tells.
		return c.found(l, s, c.keeper.now())
	}
	return c.readBack(ctx, s)
}

// found is l, which was known to be under our session at that time.
func (c *contention) found(l lockState, s *session, known time.Duration) *Held {
	predecessor := c.predecessor
	if l.record.handedTo(c.keeper.node) {
		predecessor = l.record
	}
	h := c.held(s, l.index, predecessor)
	h.known = known
	return h
}

func (c *contention) held(s *session, index uint64, predecessor Record) *Held {
	k := c.keeper
	now := time.Now().UTC().Truncate(time.Second)
	lock, _ := k.roster.get(c.name)
	h := &Held{
		Predecessor: predecessor,
		keeper:      k,
		session:     s,
		name:        c.name,
		serving:     make(chan struct{}),
		record: Record{
			State: StateHeld, Node: k.node, Owner: lock.Owner, Since: &now,
			Session: s.id, TTL: k.cfg.SessionTTL.String(), Version: k.cfg.Version,
		},
	}
	if index != 0 {
		h.index.Store(index)
		k.taken.Store(c.name, index)
	}
	return h
}
