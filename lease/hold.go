package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

// releaseTimeout bounds giving a lock back; what it leaves undone, the end of
// the session does.
const releaseTimeout = 1500 * time.Millisecond

// lossTimeout bounds finding out whether the session is lost as well.
const lossTimeout = time.Second

// errOverwritten is an ErrLockLost that leaves the key under our session.
var errOverwritten = fmt.Errorf("%w: its key was overwritten", ErrLockLost)

// Lock is what to contend for, and how.
type Lock struct {
	Name     string
	Priority int // lower goes first
	// PreemptDelay is for how long a better placed member must be there before
	// it is handed the lock. Zero means never: a running owner stays.
	PreemptDelay time.Duration
	Owner        Owner
}

// Held is a lock while it is held. Its methods are safe for concurrent use.
type Held struct {
	// Predecessor is what the lock said of its last owner when it was acquired.
	// Its state is StateHandover where that one handed it over and may serve for
	// some milliseconds more.
	Predecessor Record

	keeper  *Keeper
	session *session
	name    string
	index   atomic.Uint64 // the key's ModifyIndex as we last wrote it
	record  Record
	known   time.Duration // when it was not lost yet, on the Keeper's clock
	serving chan struct{} // closed by Serving
	once    sync.Once
}

// Remaining is the time until the hold deadline, which only answered renewals
// move. Zero or less means that nothing may be held any more, even if ctx has
// not ended yet.
func (h *Held) Remaining() time.Duration { return h.session.hold() - h.keeper.now() }

// Since is a time on the clock of Now at which the lock was not lost yet. What
// has happened since, this process knows only if it was not paused.
func (h *Held) Since() time.Duration { return h.known }

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

// Serving says that from now on this process is the owner in more than name.
// Until then the last owner may still be serving, so the lock is not handed
// over, and when it is given back its record goes on speaking of that one.
func (h *Held) Serving() { h.once.Do(func() { close(h.serving) }) }

func (h *Held) isServing() bool {
	select {
	case <-h.serving:
		return true
	default:
		return false
	}
}

// Hold contends for lock until ctx ends, and once it has it runs fn. When ctx
// ends, or another member should have the lock, it is handed over to that
// member while fn still runs; where there is none, fn ends first. Either way,
// and the instant the lock is lost, fn's context ends, with a cause that wraps
// ErrHandedOver, ErrReleased, ErrLockLost or ErrSessionLost, or is ctx's own.
//
// As soon as fn returns, a lock that is still held goes to another member, if it
// is fn's own error that ended it, or else is given back, with a record that
// gives fn's error, or else the cause, as the reason. fn must have undone
// everything by then; where it could not, or has reason to think that it is not
// the only owner, its error wraps ErrUnclean, and the record does not say
// `released`, so that the next owner makes sure for itself.
//
// Hold returns nil when ctx has ended and nothing was lost; ErrHandedOver,
// ErrReleased, ErrLockLost or ErrSessionLost, wrapped, where fn was ended for
// that; else fn's error. After ErrReleased it can be called again at once: it
// contends when it may.
func (k *Keeper) Hold(ctx context.Context, lock Lock, fn func(context.Context, *Held) error) error {
	k.roster.join(lock)
	defer k.roster.part(lock.Name)
	h := k.acquire(ctx, lock.Name)
	if h == nil {
		return nil
	}
	k.roster.comeBack(lock.Name)
	err, ended := k.runHeld(ctx, h, fn)
	if errors.Is(ended, ErrReleased) {
		k.giveUp(ctx, h, ended, errors.Is(err, ErrUnclean))
	}
	switch {
	case errors.Is(ended, ErrSessionLost):
		return ended
	case errors.Is(ended, ErrHandedOver), errors.Is(ended, ErrReleased):
		if err == nil && ctx.Err() == nil {
			return ended
		}
		return err
	case errors.Is(ended, ErrLockLost):
		return k.afterLoss(ctx, h, ended, errors.Is(err, ErrUnclean))
	}
	unclean := errors.Is(err, ErrUnclean)
	if err == nil || unclean || !k.bequeath(ctx, h, err) {
		k.release(ctx, h, h.farewell(ended, unclean))
	}
	return err
}

// giveUp gives h back because of why, to nobody in particular.
func (k *Keeper) giveUp(ctx context.Context, h *Held, why error, unclean bool) {
	k.release(ctx, h, h.farewell(why, unclean))
	if errors.Is(why, errRequested) {
		k.roster.leave(h.name, k.now()+standBack)
	}
}

// afterLoss settles which of the two was lost, as only the session can say, and
// lets go of a key that was overwritten, which is still under it.
func (k *Keeper) afterLoss(ctx context.Context, h *Held, lost error, unclean bool) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lossTimeout)
	defer cancel()
	_ = k.renewOnce(once, h.session) // what it finds out, the session's context says
	if h.session.ctx.Err() != nil {
		return context.Cause(h.session.ctx)
	}
	if errors.Is(lost, errOverwritten) {
		k.release(ctx, h, h.farewell(lost, unclean))
	}
	return lost
}

// runHeld runs fn while h is held and returns its error, and why it ended:
// that error, or what ended the hold before.
func (k *Keeper) runHeld(ctx context.Context, h *Held, fn func(context.Context, *Held) error) (err, ended error) {
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(h.session.ctx, func() { cancel(context.Cause(h.session.ctx)) })
	defer stop()
	var beside sync.WaitGroup
	beside.Go(func() { k.watchOver(ctx, run, h, cancel) })
	if h.Predecessor.State == StateHandover {
		beside.Go(func() { k.confirm(run, h) })
	}

	err = fn(run, h)
	cancel(err)
	beside.Wait()
	if errors.Is(err, ErrLockLost) || errors.Is(err, ErrSessionLost) {
		return err, err // fn found out first
	}
	return err, context.Cause(run)
}

// watchOver ends the hold as soon as the watch shows that the key is not ours or
// that nobody may have it, and hands it over when ctx ends or another member
// should have it. It returns when run, the hold's own context, has ended.
func (k *Keeper) watchOver(ctx, run context.Context, h *Held, cancel context.CancelCauseFunc) {
	due := newPreemption()
	defer due.timer.Stop()
	served := h.serving
	for {
		v, _, changed := k.board.read()
		lock, altered := k.roster.get(h.name)
		// A view from before the acquisition knows nothing of it, and its index may
		// be another history's.
		if v != nil && v.at >= h.known && v.index >= h.index.Load() {
			if ended := k.endedBy(v, h); ended != nil {
				cancel(ended)
				return
			}
			if h.isServing() {
				due.consider(v.transfer(lock, k.node))
			}
		}
		select {
		case <-changed:
		case <-altered:
		case <-served:
			served = nil
		case <-due.timer.C:
			if ended := k.carryOut(ctx, run, h, due.transfer); ended != nil {
				cancel(ended)
				return
			}
			due.timer.Reset(retryDelay)
		case <-ctx.Done():
			cancel(k.handOverAtEnd(run, h, context.Cause(ctx)))
			return
		case <-run.Done():
			return
		}
	}
}

// endedBy is why the hold has to end at once, as v shows.
func (k *Keeper) endedBy(v *view, h *Held) error {
	l := v.locks[h.name]
	switch {
	case l.session != h.session.id || l.record.Session != h.session.id:
		return k.lockLost(l, h.session)
	case v.pins[h.name] == nobody:
		return fmt.Errorf("%w: %w", ErrReleased, errNobody)
	}
	return nil
}

func (k *Keeper) lockLost(l lockState, own *session) error {
	switch {
	case l.record.State == StateHandover && l.record.From == k.node:
		return fmt.Errorf("%w to %s, later than was waited for", ErrHandedOver, l.record.Node)
	case l.index == 0:
		return fmt.Errorf("%w: its key was deleted", ErrLockLost)
	case l.session == own.id:
		// A plain write leaves the session on the key, but the record, and the
		// flag that `consul lock` goes by, are gone.
		return errOverwritten
	case l.session == "":
		return fmt.Errorf("%w: its key has no session any more", ErrLockLost)
	}
	return fmt.Errorf("%w: session %s has it", ErrLockLost, l.session)
}

// farewell is the record to leave the lock with.
func (h *Held) farewell(reason error, unclean bool) Record {
	now := time.Now().UTC().Truncate(time.Second)
	switch {
	case !h.isServing() && h.Predecessor.State != StateUnknown && !(unclean && h.Predecessor.LetGo()):
		return h.Predecessor
	case !h.isServing() || unclean:
		r := h.record
		r.At, r.Reason = &now, reason.Error()
		return r
	}
	return Record{State: StateReleased, Node: h.record.Node, At: &now, Reason: reason.Error()}
}

// release gives the lock back, leaving record in it. As long as ctx has not
// ended it tries until it is done or the session is lost: a lock that nobody
// serves under helps nobody.
func (k *Keeper) release(ctx context.Context, h *Held, record Record) {
	var pause backoff
	outage := outage{log: k.log.With("vip", h.name, "state", "releasing"), what: "releasing the lock"}
	for {
		err := k.releaseOnce(ctx, h, record)
		if err == nil {
			return
		}
		outage.failed(err)
		if h.session.ctx.Err() != nil || !pause.wait(ctx) {
			return
		}
	}
}

// releaseOnce unlocks the key as we left it and no other: a request that was
// given up may still arrive when the lock has long been ours again.
func (k *Keeper) releaseOnce(ctx context.Context, h *Held, record Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	key := k.lockKey(h.name)
	for {
		index := h.index.Load()
		_, err := k.consul.commit(ctx,
			unchanged(key, index),
			lockPair(api.KVUnlock, key, record, h.session.id))
		if !errors.Is(err, errConflict) {
			return err
		}
		pair, err := k.consul.read(ctx, key)
		switch {
		case err != nil:
			return err
		case pair == nil || pair.Session != h.session.id:
			return nil // not ours any more
		case pair.ModifyIndex == index:
			return errConflict // refused for another reason, such as the ACL
		}
		h.index.Store(pair.ModifyIndex)
	}
}
