package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// releaseTimeout bounds giving a lock back; what it leaves undone, the end of
// the session does.
const releaseTimeout = 1500 * time.Millisecond

// Held is a lock while it is held. Its methods are safe for concurrent use.
type Held struct {
	// Predecessor is what the lock said of its last owner when it was acquired.
	Predecessor Record

	keeper  *Keeper
	session *session
	name    string
	index   uint64 // the key's ModifyIndex when it was acquired
	record  Record
}

// Remaining is the time until the hold deadline, which only answered renewals
// move. Zero or less means that nothing may be held any more, even if ctx has
// not ended yet.
func (h *Held) Remaining() time.Duration { return h.session.hold() - h.keeper.now() }

// Verify asks Consul's leader whether the lock is still held. An error that is
// ErrLockLost says that it is not; any other, that nobody knows.
func (h *Held) Verify(ctx context.Context) error {
	pair, err := h.keeper.consul.read(ctx, h.keeper.lockKey(h.name))
	if err != nil {
		return err
	}
	if pair == nil || pair.Session != h.session.id {
		return ErrLockLost
	}
	return nil
}

// Now is the clock that hold deadlines count on, CLOCK_BOOTTIME. Unlike Go's
// monotonic clock it counts the time that the machine was suspended.
func (h *Held) Now() time.Duration { return h.keeper.now() }

// Hold contends for the lock called name until ctx ends, and once it has it
// runs fn. fn's context ends the instant the lock is not held any more, with a
// cause that wraps ErrLockLost or ErrSessionLost, or with ctx's own cause. As
// soon as fn returns, the lock is given back where it is still held, with a
// record that gives fn's error, or ctx's cause, as the reason. fn must have
// undone everything by then; where it could not, its error wraps ErrNotUndone
// and the record goes on saying that the address is held, so that the next
// owner makes sure for itself.
//
// Hold returns ErrSessionLost or ErrLockLost, wrapped, where the lock was
// lost, else fn's error, else nil when ctx has ended.
func (k *Keeper) Hold(ctx context.Context, name string, owner Owner, fn func(context.Context, *Held) error) error {
	h := k.acquire(ctx, name, owner)
	if h == nil {
		return nil
	}
	err, ended := k.runHeld(ctx, h, fn)
	switch {
	case errors.Is(ended, ErrSessionLost):
		return ended
	case errors.Is(ended, ErrLockLost):
		// Which of the two it is, only the session can say.
		if k.renewOnce(context.WithoutCancel(ctx), h.session); h.session.ctx.Err() != nil {
			return context.Cause(h.session.ctx)
		}
		k.release(ctx, h, ended, err) // an overwritten key is still under our session
		return ended
	}
	k.release(ctx, h, ended, err)
	return err
}

// runHeld runs fn while h is held and returns its error, and why it ended:
// that error, or what ended the hold before.
func (k *Keeper) runHeld(ctx context.Context, h *Held, fn func(context.Context, *Held) error) (err, ended error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.session.ctx, func() { cancel(context.Cause(h.session.ctx)) })
	defer stop()
	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		k.guard(ctx, h, cancel)
	}()

	err = fn(ctx, h)
	cancel(err)
	<-guarded
	if ended = context.Cause(ctx); errors.Is(err, ErrLockLost) || errors.Is(err, ErrSessionLost) {
		ended = err // fn found out first
	}
	return err, ended
}

// guard ends the hold as soon as the watch shows that the key is not ours.
func (k *Keeper) guard(ctx context.Context, h *Held, cancel context.CancelCauseFunc) {
	for {
		v, _, changed := k.board.read()
		// A view from before the acquisition knows nothing of it.
		if v != nil && v.index >= h.index {
			if l := v.locks[h.name]; l.session != h.session.id || l.index != h.index {
				cancel(lockLost(l, h.session))
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func lockLost(l lockState, own *session) error {
	switch {
	case l.index == 0:
		return fmt.Errorf("%w: its key was deleted", ErrLockLost)
	case l.session == own.id:
		// A plain write leaves the session on the key, but the record, and the
		// flag that `consul lock` goes by, are gone.
		return fmt.Errorf("%w: its key was overwritten", ErrLockLost)
	case l.session == "":
		return fmt.Errorf("%w: its key has no session any more", ErrLockLost)
	}
	return fmt.Errorf("%w: session %s has it", ErrLockLost, l.session)
}

// acquire returns nil when ctx ended.
func (k *Keeper) acquire(ctx context.Context, name string, owner Owner) *Held {
	log := k.log.With("vip", name, "state", "standby")
	c := contention{keeper: k, name: name, owner: owner, log: log, outage: outage{log: log, what: "acquiring the lock"}}
	turn := time.NewTimer(0)
	defer turn.Stop()
	for ctx.Err() == nil {
		v, s, changed := k.board.read()
		// A view from before our last release may still show the lock as ours.
		if v != nil && s != nil && v.index >= k.releasedAt(name) {
			if v.locks[name].session == s.id {
				// An earlier try succeeded without our hearing of it.
				return c.held(s, v.locks[name].index)
			}
			wait, free := c.consider(v)
			if free && wait <= 0 {
				if h := c.try(ctx, v.locks[name], s); h != nil {
					return h
				}
				continue
			}
			if free {
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
	owner  Owner
	log    hclog.Logger
	outage outage
	pause  backoff

	holder string // the session last seen on the key

	predecessor Record        // of the key when it was last seen free
	free        bool          // whether the key is free
	index       uint64        // of the free key
	turn        time.Duration // when to try for it
}

// consider says whether the lock is free in v and how long to leave it to
// better placed members. The wait counts from when the lock was first seen
// free, however often the view changes meanwhile.
func (c *contention) consider(v *view) (wait time.Duration, free bool) {
	l := v.locks[c.name]
	if l.session != "" {
		if c.holder != l.session {
			c.log.Info("the lock is taken", "holder", l.record.Node, "session", l.session)
		}
		c.free, c.holder = false, l.session
		return 0, false
	}
	c.holder = ""
	k := c.keeper
	if !c.free || c.index != l.index {
		c.free, c.index, c.predecessor = true, l.index, l.record
		c.turn = k.now() + time.Duration(k.rank(v, c.name))*rankDelay
	}
	return c.turn - k.now(), true
}

// try acquires the lock, which was seen as l without a session, or returns nil
// with the next turn set.
func (c *contention) try(ctx context.Context, l lockState, s *session) *Held {
	k := c.keeper
	key := k.lockKey(c.name)
	// Only if it still is what the view showed: a blind acquisition could slip
	// past the end of another's session, and past its record.
	guard := &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: l.index}
	if l.index == 0 {
		guard = &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key}
	}
	h := c.held(s, 0)
	lock := lockPair(key, h.record.encode(), s.id)
	lock.Verb = api.KVLock
	index, err := k.consul.commit(ctx, guard, lock)
	switch {
	case err == nil:
		c.outage.ok()
		h.index = index
		return h
	case ctx.Err() != nil:
		// Had it happened after all, the end of the session undoes it.
		return nil
	case errors.Is(err, errConflict):
		// Somebody was faster, as the watch will show, or the key is under the
		// lock-delay of a foreign session, which only time shows.
		c.log.Debug("did not get the lock", "error", err)
		c.turn = k.now() + jitter(2*time.Second)
		return nil
	}
	c.outage.failed(err)
	return c.readBack(ctx, s)
}

// readBack settles a write whose outcome is unknown: it may have happened.
func (c *contention) readBack(ctx context.Context, s *session) *Held {
	k := c.keeper
	for c.pause.wait(ctx) && s.ctx.Err() == nil {
		pair, err := k.consul.read(ctx, k.lockKey(c.name))
		if err != nil {
			c.outage.failed(err)
			continue
		}
		c.outage.ok()
		c.pause.reset()
		if pair != nil && pair.Session == s.id {
			return c.held(s, pair.ModifyIndex)
		}
		return nil
	}
	return nil
}

func (c *contention) held(s *session, index uint64) *Held {
	k := c.keeper
	now := time.Now().UTC().Truncate(time.Second)
	return &Held{
		Predecessor: c.predecessor,
		keeper:      k,
		session:     s,
		name:        c.name,
		index:       index,
		record: Record{
			State: StateHeld, Node: k.node, Owner: c.owner, Since: &now,
			Session: s.id, TTL: k.cfg.SessionTTL.String(), Version: k.cfg.Version,
		},
	}
}

// release gives the lock back together with a record that says so. As long as
// ctx has not ended it tries until it is done or the session is lost: a lock
// that nobody serves under helps nobody.
func (k *Keeper) release(ctx context.Context, h *Held, reason, err error) {
	record := h.record
	if !errors.Is(err, ErrNotUndone) {
		now := time.Now().UTC().Truncate(time.Second)
		record = Record{State: StateReleased, Node: k.node, At: &now, Reason: reason.Error()}
	}
	unlock := lockPair(k.lockKey(h.name), record.encode(), h.session.id)
	unlock.Verb = api.KVUnlock

	var pause backoff
	outage := outage{log: k.log.With("vip", h.name, "state", "releasing"), what: "releasing the lock"}
	for {
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		index, err := k.consul.commit(once, unlock)
		cancel()
		switch {
		case err == nil:
			k.released.Store(h.name, index)
			return
		case errors.Is(err, errConflict):
			return // not ours any more
		}
		outage.failed(err)
		if h.session.ctx.Err() != nil || !pause.wait(ctx) {
			return
		}
	}
}

// releasedAt is the index of this process's last release of name.
func (k *Keeper) releasedAt(name string) uint64 {
	if index, ok := k.released.Load(name); ok {
		return index.(uint64)
	}
	return 0
}
