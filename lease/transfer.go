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

const (
	// transferTimeout leaves the rest of a stop's four seconds to a release.
	transferTimeout = time.Second
	// retryDelay is the pause after a transfer that did not work.
	retryDelay = time.Second
)

// pendingTransfer is a transfer that waits for its delay. It belongs to one
// goroutine.
type pendingTransfer struct {
	state.Transfer
	since time.Time
	timer *time.Timer // runs while there is a transfer
}

func newPendingTransfer() *pendingTransfer {
	p := &pendingTransfer{timer: time.NewTimer(0)}
	p.timer.Stop()
	return p
}

// consider starts, restarts or stops the wait.
func (p *pendingTransfer) consider(t state.Transfer) {
	switch {
	case t.Reason == nil:
		p.timer.Stop()
	case !t.Equal(p.Transfer):
		p.since = time.Now()
		p.timer.Reset(t.Delay)
	case t.Delay != p.Delay:
		p.timer.Reset(t.Delay - time.Since(p.since))
	}
	p.Transfer = t
}

// carryOut transfers h as t says. It returns the reason with which the hold ends,
// or nil if it did not work. The end of ctx ends the try: a stop has a second of
// its own for a transfer.
func (k *Keeper) carryOut(ctx, run context.Context, h *Held, t state.Transfer) error {
	trying, stop := context.WithCancelCause(run)
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
	if t.Request != 0 && !k.accept(trying, h, t.Request) {
		return nil
	}
	if t.To.Session != "" {
		ended := k.transfer(trying, h, t.To, t.Reason)
		if ended != nil || t.Request == 0 || ctx.Err() != nil {
			return ended
		}
	}
	return fmt.Errorf("%w: %w", ErrReleased, t.Reason)
}

// transferAtEnd transfers h because the hold is to end. It returns the cause to end
// the hold with: reason where there is no successor or it did not work.
func (k *Keeper) transferAtEnd(ctx context.Context, h *Held, reason error) error {
	to, ok := k.successor(h)
	if !ok {
		return reason
	}
	if err := k.transfer(ctx, h, to, reason); err != nil {
		return err
	}
	return reason
}

// successor is the member to transfer h to, if it is served and there is one.
func (k *Keeper) successor(h *Held) (to state.Candidate, ok bool) {
	v, _ := k.latest.Get()
	if v.State == nil || !h.isServing() {
		return state.Candidate{}, false
	}
	return v.Successor(h.name, k.node)
}

// transfer makes the lock the successor's in one Raft commit: Consul lets any
// client lock a key for any session. This process goes on serving until then, and
// should until the successor has seen the commit. It returns nil if nothing was
// written, and ErrTransferred if it was or may have been; in the latter case the
// lock may be found under our session afterwards.
func (k *Keeper) transfer(ctx context.Context, h *Held, to state.Candidate, reason error) error {
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	began := time.Now()
	_, err := k.consul.Commit(ctx, k.transferOps(h, to, k.handoverRecord(h, to))...)
	switch {
	case errors.Is(err, consul.ErrConflict), errors.Is(err, consul.ErrUnsent):
		h.log.Warn("could not transfer the lock", "to", to.Node, "error", err)
		return nil
	case err != nil:
		h.log.Warn("transferring the lock, but Consul did not confirm it", "to", to.Node, "error", err)
	default:
		h.log.Info("lock transferred", "to", to.Node, "commit", time.Since(began).Round(10*time.Microsecond).String(), "reason", reason)
	}
	return fmt.Errorf("%w to %s: %w", ErrTransferred, to.Node, reason)
}

// transferEnded transfers h after this process has stopped serving for the reason.
// The successor does not wait for a frame, because the record tells it. It returns
// false where there is no successor or it did not work, so that the lock is still
// to be released.
func (k *Keeper) transferEnded(ctx context.Context, h *Held, reason error) bool {
	to, ok := k.successor(h)
	if !ok || ctx.Err() != nil {
		return false
	}
	record := k.handoverRecord(h, to)
	now := time.Now().UTC().Truncate(time.Second)
	record.At, record.Reason = &now, reason.Error()
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	// As with a release: a request that was given up may arrive after the lock has
	// become ours again, and the successor relies on the record.
	unchanged := consul.Unchanged(k.keys.Lock(h.name), h.index.Load())
	_, err := k.consul.Commit(ctx, append([]consul.Op{unchanged}, k.transferOps(h, to, record)...)...)
	if err != nil {
		h.log.Warn("could not transfer the lock", "to", to.Node, "error", err)
		return false
	}
	h.log.Info("lock transferred", "to", to.Node, "reason", reason)
	return true
}

// transferOps are the operations that make the lock the successor's.
func (k *Keeper) transferOps(h *Held, to state.Candidate, record state.Record) []consul.Op {
	key, value := k.keys.Lock(h.name), record.Encode()
	return []consul.Op{
		consul.Release(key, value, h.session.id),
		consul.Acquire(key, value, to.Session),
	}
}

func (k *Keeper) handoverRecord(h *Held, to state.Candidate) state.Record {
	lock, _ := k.desired.lock(h.name)
	return state.Record{
		State: state.RecordHandover, From: k.node, Node: to.Node, Owner: lock.Owner,
		Session: to.Session, TTL: h.record.TTL, Version: k.cfg.Version,
	}
}

// confirm makes the record of a transferred lock our own, once this process serves.
// Until then the record says, rightly, that the previous owner may serve.
func (k *Keeper) confirm(ctx context.Context, h *Held) {
	select {
	case <-h.serving:
	case <-ctx.Done():
		return
	}
	key := k.keys.Lock(h.name)
	var pause consul.Backoff
	failures := failurelog.New(h.log, "writing the record")
	for {
		index, err := k.consul.Commit(ctx,
			consul.Unchanged(key, h.index.Load()),
			consul.Acquire(key, h.record.Encode(), h.session.id))
		if err == nil {
			h.index.Store(index)
		}
		if err == nil || errors.Is(err, consul.ErrConflict) || ctx.Err() != nil {
			failures.Record(nil)
			return // done, or lost, which the watch is about to show
		}
		failures.Record(err)
		if !pause.Wait(ctx) {
			return
		}
	}
}
