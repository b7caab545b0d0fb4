package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/consul-vip/consul-vip/internal/failurelog"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// settleDelay is how long after a takeover the owners before stay in the record. Nobody
// waits for that write, but each wakes every member, and of a hundred addresses that are
// taken over at once, many are not bound yet.
const settleDelay = 200 * time.Millisecond

// tenure keeps a lock while the function of its hold runs: it writes the record,
// transfers the lock and ends the hold. It belongs to the goroutine of
// [Held.keep]. At most one write is under way, in a goroutine of its own, so that
// no write keeps the tenure from noticing that the lock is lost, and each write can
// be conditional on the one before.
type tenure struct {
	h         *Held
	stop      context.Context // ends when the process wants to stop holding the lock
	due       *pendingTransfer
	answer    chan answer             // of the write under way
	writing   bool                    // a write is under way
	settled   bool                    // the address has been bound for a while
	abort     context.CancelCauseFunc // gives up the transfer under way; nil: there is none
	deadline  time.Time               // of a stop's transfer; zero: the process does not stop
	giveUp    *time.Timer             // fires at the deadline
	prepared  bool                    // Prepare of the lock was called and has returned
	recording *failurelog.Log
}

// answer is the result of a write.
type answer struct {
	sent  time.Duration
	index uint64
	end   *End // what ends the hold; nil: it goes on
	// record is what was written; nil: nothing, or a transfer.
	record *state.Record
	// refused: a transfer did not work, and is to be tried again.
	refused bool
	// prepared: Prepare has returned.
	prepared bool
}

// keep keeps the lock until the hold ends. It is the only goroutine that writes to
// the key meanwhile, and ends the hold as soon as a State shows that the key is not
// ours or that no node may have it.
func (h *Held) keep(ctx context.Context) {
	t := &tenure{h: h, stop: ctx, due: newPendingTransfer(), giveUp: stoppedTimer(), answer: make(chan answer, 1), recording: failurelog.New(h.log, "writing the record")}
	defer t.close()
	stopped, bound := ctx.Done(), h.bound
	var settle <-chan time.Time
	unseen := time.NewTimer(h.session.ttl / 2)
	defer unseen.Stop()
	for h.run.Err() == nil {
		v, seen := h.keeper.latest.Get()
		lock, altered := h.contender.wanted.Get()
		if end, over := h.judge(v); over && !t.putOff(end, lock) {
			h.finish(end)
			return
		}
		t.write(v, lock)
		select {
		case <-seen:
		case <-altered:
		case <-bound:
			bound, settle = nil, time.After(h.settlesIn())
		case <-settle:
			settle, t.settled = nil, true
		case <-t.due.timer.C:
			t.due.ripe = true
		case a := <-t.answer:
			t.onAnswer(a)
		case <-unseen.C:
			wait, end, over := h.unseen()
			if over {
				h.finish(end)
			}
			unseen.Reset(wait)
		case <-stopped:
			stopped = nil
			t.beginStop(v, lock)
		case <-t.giveUp.C:
			h.finish(t.stopEnd())
		case <-h.run.Done():
		}
	}
}

// settlesIn is how long after the address was bound the record says that nobody before
// has it. A move waits for that.
func (h *Held) settlesIn() time.Duration {
	if h.Previous.State == state.RecordHandover {
		return 0
	}
	return settleDelay
}

// close waits for the write under way.
func (t *tenure) close() {
	t.due.timer.Stop()
	t.giveUp.Stop()
	if t.writing {
		t.onAnswer(<-t.answer)
	}
}

// write starts the write that is due, if none is under way.
func (t *tenure) write(v observed, lock Lock) {
	h := t.h
	if t.writing || h.run.Err() != nil {
		return
	}
	served := h.isBound()
	if served && v.State != nil && !t.stopping() {
		t.due.consider(t.next(v, lock))
	}
	leaving := t.stopping() || (served && t.due.ripe)
	if !leaving {
		t.keepAfterAll(lock)
	}
	switch {
	case leaving && t.mustPrepare(lock):
		t.prepare(lock, t.leavingReason())
	case t.stopping():
		t.transferAtStop(v)
	case served && t.due.ripe:
		t.carryOut()
	case !h.recorded || (t.settled && len(h.record.Before) > 0) || lock.Owner != h.record.Owner:
		t.rewrite(served, lock.Owner)
	}
}

// next is where the lock should go, as v shows it. A lock that nobody is to have while no
// member is fit for it is released as soon as the others know that this one is not: one
// of them may have become fit meanwhile.
func (t *tenure) next(v observed, lock Lock) state.Transfer {
	node := t.h.keeper.node
	next := v.Transfer(lock.Name, node, lock.PreemptDelay)
	if next.Reason == nil && lock.Unfit != nil && lock.UnfitIneligible && v.Members[node].IsUnfit(lock.Name) {
		return state.Transfer{Reason: state.ErrUnfit}
	}
	return next
}

// stopEnd is the end of a hold that stops without a transfer.
func (t *tenure) stopEnd() End { return End{Kind: Stopped, Reason: context.Cause(t.stop)} }

// beginStop gives up a transfer under way: a stop has a second of its own for one.
// Without a successor there is nothing to wait for.
func (t *tenure) beginStop(v observed, lock Lock) {
	timeout, prepares := transferTimeout, t.mustPrepare(lock)
	if prepares {
		timeout += lock.PrepareTimeout
	}
	t.stopWithin(timeout)
	if t.abort != nil {
		t.abort(context.Cause(t.stop))
	}
	if _, ok := t.h.successor(v); !ok && !prepares {
		t.h.finish(t.stopEnd())
	}
}

func (t *tenure) stopWithin(timeout time.Duration) {
	t.deadline = time.Now().Add(timeout)
	t.giveUp.Reset(timeout)
}

func (t *tenure) stopping() bool { return !t.deadline.IsZero() }

// start runs a write in a goroutine of its own, which reports by an answer.
func (t *tenure) start(ctx context.Context, write func(context.Context) answer) {
	t.writing = true
	go func() { t.answer <- write(ctx) }()
}

// startTransfer starts a write that transfers the lock by this record, and that
// beginStop gives up. The record of a request without a successor has no session.
func (t *tenure) startTransfer(record state.Record, reason error, write func(context.Context) answer) {
	ctx, abort := context.WithCancelCause(t.h.run)
	t.abort = abort
	if record.Session != "" {
		t.h.underWay = &transfer{record.Session, transferredBy(record, reason)}
	}
	t.start(ctx, write)
}

// transferredBy is the end of a hold whose lock was transferred by this record.
func transferredBy(record state.Record, reason error) End {
	return End{Kind: Transferred, Reason: fmt.Errorf("transferred to %s: %w", record.Node, reason), Handover: &record}
}

// onAnswer takes the result of the write that was under way.
func (t *tenure) onAnswer(a answer) {
	h := t.h
	t.writing, h.underWay = false, nil
	if t.abort != nil {
		t.abort(nil)
		t.abort = nil
	}
	if a.index != 0 {
		h.written.index = a.index
	}
	if a.record != nil {
		h.record, h.recorded = *a.record, true
		h.knownAt(a.sent)
	}
	if a.end != nil {
		h.finish(*a.end)
	}
	if a.prepared {
		t.prepared = true
		if t.stopping() {
			t.stopWithin(transferTimeout)
		}
	}
	if a.refused {
		t.due.timer.Reset(max(retryDelay, t.due.left()))
	}
}

// rewrite makes the record of the lock our own, and brings it up to date. Once the
// address is bound here, no owner before can have it.
func (t *tenure) rewrite(served bool, owner state.Owner) {
	h := t.h
	record, written := h.record, h.written
	record.Owner = owner
	if served {
		record.Before = nil
	}
	t.start(h.run, func(ctx context.Context) answer { return h.rewrite(ctx, record, written, t.recording) })
}

// rewrite writes the record until Consul has confirmed it, the lock is lost or ctx
// ends. The write is conditional on the one before, so nothing that is still under
// way from an earlier hold can be mistaken for it or change it.
func (h *Held) rewrite(ctx context.Context, record state.Record, written mark, failures *failurelog.Log) answer {
	key := h.keeper.keys.Lock(h.contender.name)
	var pause consul.Backoff
	for ctx.Err() == nil {
		sent := h.keeper.now()
		index, err := h.keeper.consul.Commit(ctx,
			consul.Unchanged(key, written.index),
			consul.Acquire(key, record.Encode(), h.session.id))
		if err == nil {
			failures.Record(nil)
			return answer{sent: sent, index: index, record: &record}
		}
		if ctx.Err() != nil {
			break
		}
		// It may have happened. A refusal may have another reason than the key.
		if a, known := h.readBack(ctx, record, written); known {
			failures.Record(nil)
			return a
		}
		failures.Record(err)
		pause.Wait(ctx)
	}
	return answer{}
}

// readBack finds out what became of a write of record, which only Consul's leader
// knows. It returns false if the key is unchanged or Consul does not answer.
func (h *Held) readBack(ctx context.Context, record state.Record, written mark) (answer, bool) {
	sent := h.keeper.now()
	l, err := h.keeper.consul.ReadLock(ctx, h.keeper.keys.Lock(h.contender.name))
	switch {
	case err != nil:
		return answer{}, false
	case l.Session == h.session.id && l.Index == written.index:
		return answer{}, false
	case l.Session == h.session.id && l.Record.Same(record):
		return answer{sent: sent, index: l.Index, record: &record}, true
	}
	end := h.lost(l)
	return answer{end: &end}, true
}

// transferAtStop transfers the lock because the hold is to stop, or ends the hold
// where there is no successor.
func (t *tenure) transferAtStop(v observed) {
	h := t.h
	to, ok := h.successor(v)
	if !ok {
		h.finish(t.stopEnd())
		return
	}
	reason, written, deadline, stopEnd := context.Cause(t.stop), h.written, t.deadline, t.stopEnd()
	record := h.handoverRecord(to)
	t.startTransfer(record, reason, func(ctx context.Context) answer {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		a := h.transfer(ctx, record, written, reason)
		if a.refused {
			return answer{end: &stopEnd}
		}
		return a
	})
}

// carryOut carries out the transfer that is due.
func (t *tenure) carryOut() {
	h, due, written := t.h, t.due.Transfer, t.h.written
	record := h.handoverRecord(due.To)
	t.due.ripe = false
	t.startTransfer(record, due.Reason, func(ctx context.Context) answer {
		if due.Request != 0 && !h.accept(ctx, due.Request) {
			return answer{refused: true}
		}
		if due.To.Session != "" {
			a := h.transfer(ctx, record, written, due.Reason)
			if !a.refused || due.Request == 0 || ctx.Err() != nil {
				return a
			}
		}
		return answer{end: &End{Kind: Released, Reason: fmt.Errorf("released: %w", due.Reason)}}
	})
}

// transfer makes the lock, which is as it was last written, the successor's by this
// record, in one Raft commit: Consul lets any client lock a key for any session. This
// process goes on serving until then, and should until the successor has seen the
// commit. If the answer is not refused the lock was transferred, or may have been; in
// the latter case it may be found under our session afterwards.
func (h *Held) transfer(ctx context.Context, record state.Record, written mark, reason error) answer {
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	began := time.Now()
	index, err := h.keeper.consul.Commit(ctx, h.transferOps(record, written)...)
	switch {
	case errors.Is(err, consul.ErrConflict), errors.Is(err, consul.ErrUnsent):
		h.log.Warn("could not transfer the lock", "to", record.Node, "error", err)
		return answer{refused: true}
	case err != nil:
		h.log.Warn("transferring the lock, but Consul did not confirm it", "to", record.Node, "error", err)
	default:
		h.log.Info("lock transferred", "to", record.Node, "commit", time.Since(began).Round(10*time.Microsecond).String(), "reason", reason)
	}
	end := transferredBy(record, reason)
	return answer{index: index, end: &end}
}
