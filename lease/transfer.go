package lease

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

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
	timer *time.Timer // runs while there is a transfer that is not ripe
	ripe  bool        // the delay is over
}

func newPendingTransfer() *pendingTransfer {
	return &pendingTransfer{timer: stoppedTimer()}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// consider starts, restarts or stops the wait.
func (p *pendingTransfer) consider(t state.Transfer) {
	switch {
	case t.Reason == nil:
		p.timer.Stop()
		p.ripe = false
	case !t.Equal(p.Transfer):
		p.since = time.Now()
		p.ripe = false
		p.timer.Reset(t.Delay)
	case t.Delay != p.Delay:
		p.ripe = false
		p.timer.Reset(t.Delay - time.Since(p.since))
	}
	p.Transfer = t
}

// left is how much of the delay is left.
func (p *pendingTransfer) left() time.Duration { return p.Delay - time.Since(p.since) }

// successor is the member to transfer the lock to, if it is served and there is one.
func (h *Held) successor(v observed) (to state.Candidate, ok bool) {
	if v.State == nil || !h.isBound() {
		return state.Candidate{}, false
	}
	return v.Successor(h.contender.name, h.keeper.node)
}

// transferEnded transfers the lock after this process has stopped serving for the
// reason. The successor does not wait for a frame, because the record tells it. It
// returns false where there is no successor or it did not work, so that the lock is
// still to be released.
func (h *Held) transferEnded(ctx context.Context, reason error) bool {
	v, _ := h.keeper.latest.Get()
	to, ok := h.successor(v)
	if !ok || ctx.Err() != nil {
		return false
	}
	record := h.handoverRecord(to)
	record.At, record.Reason = wallClock(), reason.Error()
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	index, err := h.keeper.consul.Commit(ctx, h.transferOps(record, h.written)...)
	if err != nil {
		h.log.Warn("could not transfer the lock", "to", to.Node, "error", err)
		return false
	}
	h.written.index = index
	h.log.Info("lock transferred", "to", to.Node, "reason", reason)
	return true
}

// transferOps are the operations that make the lock, as it was last written, the
// successor's that the record names.
func (h *Held) transferOps(record state.Record, written mark) []consul.Op {
	key, value := h.keeper.keys.Lock(h.contender.name), record.Encode()
	return []consul.Op{
		consul.Unchanged(key, written.index),
		consul.Release(key, value, h.session.id),
		consul.Acquire(key, value, record.Session),
	}
}

func (h *Held) handoverRecord(to state.Candidate) state.Record {
	lock, _ := h.contender.wanted.Get()
	return state.Record{
		State: state.RecordHandover, From: h.keeper.node, Node: to.Node, Owner: lock.Owner,
		Session: to.Session, TTL: h.keeper.cfg.SessionTTL.String(), Version: h.keeper.cfg.Version, Contested: h.contender.stranger.recall(h.keeper.now()),
		Nonce: newNonce(), Unheard: h.record.Unheard,
	}
}

// newNonce draws the nonce of a handover.
func newNonce() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}
