package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/lease/state"
)

// lossTimeout bounds finding out whether the session is lost as well.
const lossTimeout = time.Second

// errOverwritten is an ErrLockLost that leaves our session on the key.
var errOverwritten = fmt.Errorf("%w: its key was overwritten", ErrLockLost)

// Held is a lock while it is held. Its methods are safe for concurrent use.
type Held struct {
	// Previous is the record of the previous owner when the lock was acquired.
	// Its state is RecordHandover where that owner transferred the lock and may serve
	// for some milliseconds more.
	Previous state.Record

	keeper  *Keeper
	session *session
	name    string
	log     hclog.Logger
	index   atomic.Uint64 // the key's ModifyIndex as we last wrote it
	record  state.Record
	known   time.Duration // when it was not lost yet, on the Keeper's clock
	serving chan struct{} // closed by Serving
	once    sync.Once
}

// Remaining is the time until the hold deadline, which only answered renewals
// move. Zero or less means that nothing may be held any more, even if ctx has not
// ended yet.
func (h *Held) Remaining() time.Duration { return h.session.deadline() - h.keeper.now() }

// Since is a time on the clock of Now at which the lock was not lost yet. A process
// that was paused since then does not know what has happened meanwhile.
func (h *Held) Since() time.Duration { return h.known }

// Verify asks Consul's leader whether the lock is still held, for 5 s at most. An
// error that is ErrLockLost says that it is not; after any other error it is
// unknown.
func (h *Held) Verify(ctx context.Context) error {
	l, err := h.keeper.consul.ReadLock(ctx, h.keeper.keys.Lock(h.name))
	if err != nil {
		return err
	}
	if l.Session != h.session.id {
		return ErrLockLost
	}
	return nil
}

// Now is the clock that hold deadlines count on, CLOCK_BOOTTIME. Unlike Go's
// monotonic clock it counts the time that the machine was suspended.
func (h *Held) Now() time.Duration { return h.keeper.now() }

// Serving says that from now on this process is the owner and may answer on the
// wire. Until then the previous owner may still serve, so the lock is not
// transferred, and when it is released the record still describes the previous
// owner. Later calls do nothing.
func (h *Held) Serving() { h.once.Do(func() { close(h.serving) }) }

func (h *Held) isServing() bool {
	select {
	case <-h.serving:
		return true
	default:
		return false
	}
}

// Hold contends for lock until ctx ends. Once it has the lock it runs fn. When ctx
// ends, or another member should have the lock, the lock is transferred to that
// member while fn still runs; without such a member fn ends first. Either way, and
// the instant the lock is lost, fn's context ends with a cause that wraps
// ErrTransferred, ErrReleased, ErrLockLost or ErrSessionLost, or is ctx's own.
//
// As soon as fn returns, a lock that is still held goes to another member if fn
// ended by an error of its own, else it is released, with a record that gives fn's
// error, or else the cause, as the reason. By then fn must have undone everything.
// Where it could not, or has reason to think that it is not the only owner, its
// error wraps ErrUnclean; then the record does not say `released`, and the next
// owner makes sure for itself.
//
// Hold returns nil when ctx has ended and nothing was lost; ErrTransferred,
// ErrReleased, ErrLockLost or ErrSessionLost, wrapped, where fn was ended for that;
// else fn's error. After ErrReleased it can be called again at once: it contends
// as soon as it may.
func (k *Keeper) Hold(ctx context.Context, lock Lock, fn func(context.Context, *Held) error) error {
	k.desired.add(lock)
	defer k.desired.remove(lock.Name)
	h := k.acquire(ctx, lock)
	if h == nil {
		return nil
	}
	k.desired.endHoldOff(lock.Name)
	err, ended := k.runHeld(ctx, h, fn)
	unclean := errors.Is(err, ErrUnclean)
	switch {
	case errors.Is(ended, ErrSessionLost):
		return ended
	case errors.Is(ended, ErrReleased):
		k.releaseAndHoldOff(ctx, h, ended, unclean)
		return endOf(ctx, err, ended)
	case errors.Is(ended, ErrTransferred):
		return endOf(ctx, err, ended)
	case errors.Is(ended, ErrLockLost):
		return k.afterLoss(ctx, h, ended, unclean)
	}
	if err == nil || unclean || !k.transferEnded(ctx, h, err) {
		k.release(ctx, h, h.finalRecord(ended, unclean))
	}
	return err
}

// endOf is what Hold returns after a hold that ended as intended: fn's error comes
// first, and the end of ctx is no news to the caller.
func endOf(ctx context.Context, err, ended error) error {
	if err == nil && ctx.Err() == nil {
		return ended
	}
	return err
}

// afterLoss finds out whether the session is lost as well, which only Consul can
// tell, and releases a key that was overwritten: our session is still on it.
func (k *Keeper) afterLoss(ctx context.Context, h *Held, lost error, unclean bool) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lossTimeout)
	defer cancel()
	_ = k.renewOnce(once, h.session) // the session's context has the result
	if h.session.ctx.Err() != nil {
		return context.Cause(h.session.ctx)
	}
	if errors.Is(lost, errOverwritten) {
		k.release(ctx, h, h.finalRecord(lost, unclean))
	}
	return lost
}

// runHeld runs fn while h is held. It returns fn's error and the reason of the end:
// that error, or what ended the hold before.
func (k *Keeper) runHeld(ctx context.Context, h *Held, fn func(context.Context, *Held) error) (err, ended error) {
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(h.session.ctx, func() { cancel(context.Cause(h.session.ctx)) })
	defer stop()
	var beside sync.WaitGroup
	beside.Go(func() { k.watchHold(ctx, run, h, cancel) })
	if h.Previous.State == state.RecordHandover {
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

// watchHold ends the hold as soon as a State shows that the key is not ours or that
// no node may have it. It transfers the lock when ctx ends or another member should
// have it. It returns when run, the hold's own context, has ended.
func (k *Keeper) watchHold(ctx, run context.Context, h *Held, cancel context.CancelCauseFunc) {
	due := newPendingTransfer()
	defer due.timer.Stop()
	served := h.serving
	for {
		v, seen := k.latest.Get()
		lock, altered := k.desired.lock(h.name)
		// A State from before the acquisition does not show it, and its index may
		// belong to another history.
		if v.State != nil && v.at >= h.known && v.Index >= h.index.Load() {
			if ended := k.endedBy(v.State, h); ended != nil {
				cancel(ended)
				return
			}
			if h.isServing() {
				due.consider(v.Transfer(lock.Name, k.node, lock.PreemptDelay))
			}
		}
		select {
		case <-seen:
		case <-altered:
		case <-served:
			served = nil
		case <-due.timer.C:
			if ended := k.carryOut(ctx, run, h, due.Transfer); ended != nil {
				cancel(ended)
				return
			}
			due.timer.Reset(retryDelay)
		case <-ctx.Done():
			cancel(k.transferAtEnd(run, h, context.Cause(ctx)))
			return
		case <-run.Done():
			return
		}
	}
}

// endedBy is the reason for which the hold has to end at once, as s shows.
func (k *Keeper) endedBy(s *state.State, h *Held) error {
	l := s.Locks[h.name]
	switch {
	case l.Session != h.session.id || l.Record.Session != h.session.id:
		return k.lockLost(l, h.session)
	case s.Pin(h.name) == state.Nobody:
		return fmt.Errorf("%w: %w", ErrReleased, state.ErrNobody)
	}
	return nil
}

func (k *Keeper) lockLost(l state.Lock, own *session) error {
	switch {
	case l.Record.State == state.RecordHandover && l.Record.From == k.node:
		return fmt.Errorf("%w to %s, confirmed late", ErrTransferred, l.Record.Node)
	case l.Index == 0:
		return fmt.Errorf("%w: its key was deleted", ErrLockLost)
	case l.Session == own.id:
		// A plain write leaves the session on the key, but the record, and the flag
		// that `consul lock` looks for, are gone.
		return errOverwritten
	case l.Session == "":
		return fmt.Errorf("%w: its key has no session", ErrLockLost)
	}
	return fmt.Errorf("%w: session %s holds it", ErrLockLost, l.Session)
}
