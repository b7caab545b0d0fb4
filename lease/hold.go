package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Errors of which each [End] of the kinds LockLost and SessionLost wraps one.
var (
	// ErrLockLost means that the session lives but no longer has the lock: another
	// client deleted, overwrote or unlocked the key, or the key could not be seen any
	// more.
	ErrLockLost = errors.New("lock lost")
	// ErrSessionLost means that the session was destroyed or expired, or that its
	// hold deadline passed without a renewal. Every lock is lost with it.
	ErrSessionLost = errors.New("session lost")
)

// errReturned is the reason of a hold whose function returned without one.
var errReturned = errors.New("nothing serves the lock any more")

// lossTimeout bounds finding out whether the session is lost as well.
const lossTimeout = time.Second

// Kind says what ended a hold.
type Kind int

// The kinds of ends.
const (
	Stopped     Kind = iota // the context of Hold ended
	Transferred             // the lock is a successor's, as intended
	Released                // an operator requested it, or pinned the lock to nobody
	SteppedDown             // the function ended by itself
	LockLost                // the lock is lost, the session is not
	SessionLost             // the session is lost, and all locks with it
	Taken                   // another member took the lock, because this host did not answer on the wire
)

// End is how a hold ended.
type End struct {
	Kind Kind
	// Reason tells people why. With LockLost it wraps ErrLockLost, with SessionLost
	// ErrSessionLost, with SteppedDown it is the function's own, with Stopped the
	// cause of the context.
	Reason error
	// Clean: the function left nothing behind that may still use the lock.
	Clean bool
	// Handover, with Transferred, is the record that tells the successor, with the nonce
	// of the handover; nil if it is not known, or if the lock has returned.
	Handover *state.Record
}

// Left is how the function of a hold left the lock. The zero Left is that of a
// function whose context ended and that undid everything.
type Left struct {
	// Reason is why the function ended by itself; nil: its context ended.
	Reason error
	// Unclean: this host may still use the address. The next owner makes sure.
	Unclean bool
	// Contested: a stranger has the address, with MAC and Tries.
	Contested *state.Contested
}

func (l Left) clean() bool { return !l.Unclean && l.Contested == nil }

// Held is a lock while it is held. Its methods are safe for concurrent use.
type Held struct {
	// Previous is the record that was found when the lock was acquired. Its state is
	// RecordHandover where its owner From transferred the lock and may serve for some
	// milliseconds more.
	Previous state.Record
	// Before is everybody whose kernel may still have the address; empty: nobody. An
	// entry without a node is somebody unknown.
	Before []state.Before
	// Contested tells of a stranger that had the address in the last ten minutes; nil:
	// there was none.
	Contested *state.Contested

	// TookFrom is the node from which the lock was taken, because its host did not answer
	// on the wire; empty: it was not taken. Answered: Consul has answered the very try
	// that took it.
	TookFrom string
	Answered bool
	// Committed is how long the write that acquired the lock took; 0: the lock was
	// transferred to this process.
	Committed time.Duration

	// Set when the lock was acquired, or by serve; never changed afterwards.
	contender *Contender
	keeper    *Keeper
	session   *session
	log       hclog.Logger
	run       context.Context // that of the function
	cancel    context.CancelFunc

	known latest.Latest[time.Duration] // when the lock was last known to be ours; set by keep
	bound chan struct{}                // closed by Bound
	once  sync.Once                    // guards the closing

	// Owned by the goroutine of keep, and after its end by that of Hold.
	record   state.Record  // as it is in the key, or is about to be
	recorded bool          // record is in the key
	written  mark          // the write that every later write is conditional on
	seen     time.Duration // when the query was sent that last showed the lock as ours
	underWay *transfer     // the transfer under way; nil: there is none

	mu    sync.Mutex // guards all following fields
	ended *End       // nil while the hold goes on
}

// transfer is a transfer under way. A State may show its success before its answer
// comes.
type transfer struct {
	session string // the successor's
	end     End    // of the hold, if it succeeds
}

// Bound says that the address is bound here and nobody else has it: from now on
// the lock can be transferred. Later calls do nothing.
func (h *Held) Bound() { h.once.Do(func() { close(h.bound) }) }

func (h *Held) isBound() bool {
	select {
	case <-h.bound:
		return true
	default:
		return false
	}
}

// Ended returns what ended the hold. Call it after the function's context has
// ended.
func (h *Held) Ended() End {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil {
		return End{}
	}
	return *h.ended
}

// finish ends the hold, unless it has ended already.
func (h *Held) finish(end End) {
	h.mu.Lock()
	if h.ended == nil {
		h.ended = &end
	}
	h.mu.Unlock()
	h.cancel()
}

// Hold contends for the lock until ctx ends. Once it has the lock it runs fn. When
// ctx ends, or another member should have the lock, the lock is transferred to that
// member while fn still runs; without such a member fn ends first. Either way, and
// the instant the lock is lost, fn's context ends; [Held.Ended] then says why.
//
// As soon as fn returns, a lock that is still held goes to another member if fn
// stepped down and left nothing behind, else it is released, with a record that
// gives the reason. By then fn must have undone everything; where it could not, its
// [Left] says so, and the record makes the next owner make sure for itself.
func (c *Contender) Hold(ctx context.Context, fn func(context.Context, *Held) Left) End {
	h, ok := c.acquire(ctx)
	if !ok {
		return End{Kind: Stopped, Reason: context.Cause(ctx), Clean: true}
	}
	c.setHeld(true)
	defer c.setHeld(false)
	left := h.serve(ctx, fn)
	end := h.conclude(ctx, left)
	end.Clean = left.clean()
	c.written, c.last = h.written, h.record
	return end
}

// serve runs fn while the lock is held.
func (h *Held) serve(ctx context.Context, fn func(context.Context, *Held) Left) Left {
	h.run, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(h.session.ctx, func() {
		h.finish(End{Kind: SessionLost, Reason: context.Cause(h.session.ctx)})
	})
	defer stop()
	var beside sync.WaitGroup
	beside.Go(func() { h.keep(ctx) })

	left := fn(h.run, h)
	reason := left.Reason
	if reason == nil {
		reason = errReturned
	}
	h.finish(End{Kind: SteppedDown, Reason: reason})
	beside.Wait()
	return left
}

// conclude does what is left to do for the lock after fn has returned.
func (h *Held) conclude(ctx context.Context, left Left) End {
	end := h.Ended()
	switch end.Kind {
	case SessionLost, Transferred:
	case Taken:
		h.keeper.setBack(end.Reason)
	case LockLost:
		return h.afterLoss(ctx, end, left)
	case Released:
		h.release(ctx, end.Reason, left)
		if errors.Is(end.Reason, state.ErrRequested) {
			h.contender.holdOff(h.keeper.now() + holdOffTime)
		}
	case SteppedDown:
		if !left.clean() || !h.transferEnded(ctx, end.Reason) {
			h.release(ctx, end.Reason, left)
		}
	case Stopped:
		h.release(ctx, end.Reason, left)
	}
	return end
}

// afterLoss finds out whether the session is lost as well, which only Consul can
// tell. If it is not, it releases a key that is still under it: an overwritten one,
// or one that could not be seen.
func (h *Held) afterLoss(ctx context.Context, lost End, left Left) End {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lossTimeout)
	defer cancel()
	_ = h.keeper.renewOnce(once, h.session) // the session's context has the result
	if h.session.ctx.Err() != nil {
		return End{Kind: SessionLost, Reason: context.Cause(h.session.ctx)}
	}
	h.release(ctx, lost.Reason, left)
	return lost
}

// judge returns the reason for which the hold has to end at once, as the latest
// State shows it, and whether there is one.
func (h *Held) judge(v observed) (End, bool) {
	// A State from before our last write does not show it.
	if v.State == nil || !h.written.shownBy(v.State) {
		return End{}, false
	}
	l, exists := v.Locks[h.contender.name]
	switch {
	case !exists && v.Filtered:
		return End{}, false // it proves nothing about a key that is not in it
	case l.Session != h.session.id || l.Record.Session != h.session.id:
		return h.lost(l), true
	case l.Record.State == state.RecordHandover && v.History == h.written.history && l.Index > h.written.index:
		return End{Kind: Transferred, Reason: fmt.Errorf("transferred, and returned: %s", l.Record.Reason)}, true
	case v.Pin(h.contender.name) == state.Nobody:
		return End{Kind: Released, Reason: fmt.Errorf("released: %w", state.ErrNobody)}, true
	}
	h.seen = max(h.seen, v.sent)
	if v.consistent {
		h.knownAt(v.sent)
	}
	if v.History != h.written.history {
		h.written = mark{v.History, l.Index} // the same lock in a restored snapshot
	}
	return End{}, false
}

// lost is the end of the hold of a lock that was seen as l.
func (h *Held) lost(l state.Lock) End {
	if end, taken := h.takenByOther(l); taken {
		return end
	}
	lost := func(how string) End { return End{Kind: LockLost, Reason: fmt.Errorf("%w: %s", ErrLockLost, how)} }
	switch {
	case h.underWay != nil && l.Session == h.underWay.session:
		return h.underWay.end
	case l.Record.State == state.RecordHandover && l.Record.From == h.keeper.node && l.Session != "" && l.Session != h.session.id:
		return End{Kind: Transferred, Reason: fmt.Errorf("transferred to %s, confirmed late", l.Record.Node), Handover: &l.Record}
	case l.Index == 0:
		return lost("its key was deleted")
	case l.Session == h.session.id:
		// A plain write leaves the session on the key, but the record, and the flag
		// that `consul lock` looks for, are gone.
		return lost("its key was overwritten")
	case l.Session == "":
		return lost("its key has no session")
	}
	return lost("session " + l.Session + " holds it")
}

// unseen looks at how long ago a State last showed the lock, and returns how long to
// wait for the next look, or that the hold is over. Renewals prove the session, not
// the lock: a watch that stays blind while they are answered must not let an owner
// serve for ever. If they are not answered either, the hold deadline ends the hold.
func (h *Held) unseen() (wait time.Duration, end End, over bool) {
	ttl, now := h.session.ttl, h.keeper.now()
	switch age := now - h.seen; {
	case age < ttl/2:
		return ttl/2 - age, End{}, false
	case age < ttl:
		h.keeper.reread.Set() // the watch may be pausing after an error
		return ttl - age, End{}, false
	case now-h.session.renewedAt() > renewalsWork:
		return time.Second, End{}, false
	}
	return 0, End{Kind: LockLost, Reason: fmt.Errorf("%w: its key was not seen for %s", ErrLockLost, ttl)}, true
}
