package simconsul

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

const (
	// kept is how many old stores a server that lags behind may have.
	kept = 8
	// tombstoneTTL is how long Consul remembers deleted keys.
	tombstoneTTL = 15 * time.Minute
)

var (
	errEOF       = errors.New("rpc error making call: EOF")
	errLostWrite = errors.New("raft apply failed: leadership lost while committing log")
	errVerify    = errors.New("leadership lost while verifying leadership")
)

// leader is one server's time as the leader. The cluster's mutex guards it.
type leader struct {
	// ready: it has caught up with what the leader before it had committed. Until then
	// it answers default reads from stale, and consistent ones wait.
	ready  bool
	stale  *store
	frozen bool
	// gone is closed when it has lost its place and everybody who is connected to it
	// knows: its process is dead, or it has thawed and found another leader.
	gone     chan struct{}
	deposed  bool // another one leads; a frozen server does not know
	answered bool // thawed after it was deposed: it answers reads before it notices
}

func (l *leader) isGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// commit writes to the store now. The caller holds mu. A write that keep reports as
// refused leaves only the index behind.
func (c *Cluster) commit(write func(*store) (keep bool)) {
	tx := c.store.next()
	if tx.index%64 == 0 || time.Since(c.reaped) > time.Minute {
		c.reaped = time.Now()
		tx.reap(time.Now().Add(-tombstoneTTL))
	}
	if !write(tx) {
		tx = c.store.next() // the raft log has an entry all the same
	}
	c.publish(tx)
}

// publish makes a store the present one. The caller holds mu.
func (c *Cluster) publish(s *store) {
	c.history = append(c.history, c.store)
	if len(c.history) > kept {
		c.history = slices.Delete(c.history, 0, 1)
	}
	c.store = s
	now := time.Now()
	for key, d := range s.delays {
		c.lockDelays[key] = now.Add(d)
	}
	for _, e := range s.ended {
		c.logf("session %s ended: %s", e.id, e.why)
		c.stopTimer(e.id)
	}
	if c.Changed != nil {
		for _, change := range s.changes {
			c.Changed(change)
		}
	}
	c.tell()
}

// propose has the leader commit a write. The write is called under mu. Whether a write
// is committed whose leader dies meanwhile is a matter of chance; its sender gets an
// error.
func (c *Cluster) propose(ctx context.Context, l *leader, write func(*store) (keep bool)) error {
	c.mu.Lock()
	late := l.frozen // it waits in front of the process
	c.mu.Unlock()
	if err := c.hop(ctx, time.Millisecond, 4*time.Millisecond); err != nil {
		return err
	}
	decided := false
	return c.await(ctx, func() (bool, error) {
		switch {
		case l.isGone() || l.deposed:
			if !decided && !late && c.rand.IntN(2) == 0 { // it had reached another server
				c.byLeader(write)
			}
			if decided = true; l.isGone() {
				return false, errLostWrite
			}
			return false, nil
		case l.frozen:
			return false, nil
		}
		c.commit(write)
		return true, nil
	})
}

// byLeader has the leader commit something, now or as soon as there is one. The caller
// holds mu.
func (c *Cluster) byLeader(write func(*store) (keep bool)) {
	c.pending = append(c.pending, write)
	c.commitPending()
}

// commitPending commits what waits for a leader. The caller holds mu.
func (c *Cluster) commitPending() {
	if c.leader == nil || c.leader.frozen || !c.leader.ready {
		return
	}
	waiting := c.pending
	c.pending = nil
	for _, write := range waiting {
		c.commit(write)
	}
}

// KillLeader kills the leader's process. Another server leads after that time. For most
// of it the other servers still take the dead one for the leader and refuse every request
// at once.
func (c *Cluster) KillLeader(election time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logf("leader killed, the next one leads in %v", election)
	c.depose()
	c.elect(election, 1)
}

// StopServers kills all servers, which come back after that time with what they had
// committed. The new leader replays its log: it answers default reads with history
// until it has caught up.
func (c *Cluster) StopServers(down time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logf("all servers killed for %v", down)
	c.depose()
	c.elect(down, kept)
}

// FreezeLeader stops the leader's process for some time. Requests to it hang
// until then. Another server leads after election; with election 0, or one that is not
// shorter than frozen, it leads on when it thaws.
func (c *Cluster) FreezeLeader(election, frozen time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.leader
	if l == nil || l.frozen {
		return
	}
	c.logf("leader frozen for %v", frozen)
	l.frozen = true
	c.stopTimers()
	c.tell()
	if election > 0 && election < frozen {
		c.later(election, func() {
			if c.leader == l {
				l.stale, l.deposed = c.store, true
				c.leader = nil
				c.elect(0, 1)
			}
		})
	}
	c.later(frozen, func() { c.thawLeader(l) })
}

// thawLeader is called under mu.
func (c *Cluster) thawLeader(l *leader) {
	l.frozen = false
	switch {
	case c.leader == l:
		c.logf("leader thawed")
		c.startTimers() // those that ran out meanwhile end now; none is modelled to
		c.commitPending()
	case l.deposed:
		l.answered = c.rand.IntN(2) == 0
		c.later(c.latency(time.Millisecond, 20*time.Millisecond), func() {
			if !l.isGone() {
				close(l.gone)
			}
			c.tell()
		})
	}
	c.tell()
}

// depose kills the leader. The caller holds mu.
func (c *Cluster) depose() {
	c.stopTimers()
	if l := c.leader; l != nil && !l.isGone() {
		close(l.gone)
	}
	c.leader = nil
	c.tell()
}

// elect makes a server the leader after some time, unless another election begins
// meanwhile. It may lack up to so many of the last writes for a moment. The caller
// holds mu.
func (c *Cluster) elect(after time.Duration, behind int) {
	c.elections++
	election := c.elections
	c.unaware = true
	c.later(c.latency(after*6/10, after*95/100), func() { c.unaware = c.unaware && c.elections != election })
	c.later(after, func() {
		if c.elections != election {
			return
		}
		l := &leader{gone: make(chan struct{}), stale: c.store}
		if n := min(c.rand.IntN(behind+1), len(c.history)); n > 0 {
			l.stale = c.history[len(c.history)-n]
		}
		c.leader, c.unaware = l, false
		c.logf("a new leader was elected")
		c.tell()
		c.later(c.latency(time.Millisecond, 60*time.Millisecond), func() { c.establish(l) })
	})
}

// establish ends a new leader's catching up. The caller holds mu.
func (c *Cluster) establish(l *leader) {
	if c.leader != l || l.isGone() {
		return
	}
	l.ready, l.stale = true, nil
	c.commit(func(*store) bool { return true }) // its barrier
	c.startTimers()
	c.commitPending()
	c.tell()
	c.later(c.latency(100*time.Millisecond, time.Second), c.announceLeader)
}

// announceLeader tells the agents of the new leader, at which they compare all that
// they have with the catalog. The caller holds mu.
func (c *Cluster) announceLeader() {
	for _, a := range c.agents {
		if a.run != nil && !a.cut {
			a.run.joined.Set()
		}
	}
}

// startTimers starts the TTL of every session anew, as a new leader does. The caller
// holds mu.
func (c *Cluster) startTimers() {
	for _, id := range slices.Sorted(maps.Keys(c.store.sessions)) {
		c.startTimer(c.store.sessions[id])
	}
}

// startTimer starts a session's TTL anew. The session ends twice the TTL later. The
// caller holds mu.
func (c *Cluster) startTimer(n *session) {
	c.stopTimer(n.ID)
	if n.TTL == 0 || c.Instant {
		return
	}
	l, id := c.leader, n.ID
	c.timers[id] = c.later(2*n.TTL, func() {
		if c.leader == l && c.timers[id] != nil {
			delete(c.timers, id)
			c.byLeader(func(s *store) bool { return s.end(id, "its TTL ran out", time.Now()) })
		}
	})
}

func (c *Cluster) stopTimer(id string) {
	if t := c.timers[id]; t != nil {
		t.Stop()
		delete(c.timers, id)
	}
}

func (c *Cluster) stopTimers() {
	for id := range c.timers {
		c.stopTimer(id)
	}
}

// Leader reports whether there is a leader that works.
func (c *Cluster) Leader() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leading()
}

func (c *Cluster) leading() bool { return c.leader != nil && c.leader.ready && !c.leader.frozen }
