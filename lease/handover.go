package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// handOverTimeout leaves the rest of a stop's four seconds to a release.
	handOverTimeout = time.Second
	// tidyDelay is how long a lock may lie under our session with nobody here to
	// serve under it.
	tidyDelay = time.Second
	// retryDelay is when to try again what a better placed member could not be
	// handed.
	retryDelay = time.Second
)

// handOverAtEnd hands h over because the hold is to end, and returns the cause with
// which to end it: where there is no successor or it did not work, why.
func (k *Keeper) handOverAtEnd(ctx context.Context, h *Held, why error) error {
	v, _, _ := k.board.read()
	if v == nil || !h.isServing() {
		return why
	}
	to, ok := v.successor(h.name, k.node)
	if !ok {
		return why
	}
	if err := k.handOver(ctx, h, to, why); err != nil {
		return err
	}
	return why
}

// handOver makes the lock to's, in one Raft commit: Consul does not mind that
// it is us who lock for another session. What is under the lock goes on here
// until then, and should until to has seen it. It returns nil if nothing has happened, and ErrHandedOver if it has or
// may have: if it has not, the lock is found under our session afterwards.
func (k *Keeper) handOver(ctx context.Context, h *Held, to contender, why error) error {
	log := k.log.With("vip", h.name, "state", "active")
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	began := time.Now()
	_, err := k.consul.commit(ctx, k.passOn(h, to, k.handoverRecord(h, to))...)
	switch {
	case errors.Is(err, errConflict), errors.Is(err, errUnsent):
		log.Warn("could not hand over", "to", to.node, "error", err)
		return nil
	case err != nil:
		log.Warn("handing over, Consul does not say whether it has happened", "to", to.node, "error", err)
	default:
		log.Info("handed over", "to", to.node, "commit", time.Since(began).Round(10*time.Microsecond).String(), "reason", why)
	}
	return fmt.Errorf("%w to %s: %w", ErrHandedOver, to.node, why)
}

// passOn are the operations that make the lock to's.
func (k *Keeper) passOn(h *Held, to contender, record Record) []*api.KVTxnOp {
	key := k.lockKey(h.name)
	return []*api.KVTxnOp{
		lockPair(api.KVUnlock, key, record, h.session.id),
		lockPair(api.KVLock, key, record, to.session),
	}
}

func (k *Keeper) handoverRecord(h *Held, to contender) Record {
	lock, _ := k.roster.get(h.name)
	return Record{
		State: StateHandover, From: k.node, Node: to.node, Owner: lock.Owner,
		Session: to.session, TTL: h.record.TTL, Version: k.cfg.Version,
	}
}

// bequeath hands h over after what was under it has ended, because of why: to
// has no word on the wire to wait for, as the record tells it. It returns false
// where there is nobody or it did not work, so that the lock is still to be
// released.
func (k *Keeper) bequeath(ctx context.Context, h *Held, why error) bool {
	v, _, _ := k.board.read()
	if v == nil || !h.isServing() || ctx.Err() != nil {
		return false
	}
	to, ok := v.successor(h.name, k.node)
	if !ok {
		return false
	}
	log := k.log.With("vip", h.name, "state", "releasing")
	record := k.handoverRecord(h, to)
	now := time.Now().UTC().Truncate(time.Second)
	record.At, record.Reason = &now, why.Error()
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	// As with a release: a request that was given up may arrive when the lock is
	// ours again, and to believes what the record says.
	still := unchanged(k.lockKey(h.name), h.index.Load())
	_, err := k.consul.commit(ctx, append([]*api.KVTxnOp{still}, k.passOn(h, to, record)...)...)
	if err != nil {
		log.Warn("could not hand over", "to", to.node, "error", err)
		return false
	}
	log.Info("handed over", "to", to.node, "reason", why)
	return true
}

// confirm makes the record of a lock that was handed to us our own, once we
// serve. Until then it says, rightly, that the giver may be serving.
func (k *Keeper) confirm(ctx context.Context, h *Held) {
	select {
	case <-h.serving:
	case <-ctx.Done():
		return
	}
	key := k.lockKey(h.name)
	var pause backoff
	outage := outage{log: k.log.With("vip", h.name, "state", "active"), what: "writing the record"}
	for {
		index, err := k.consul.commit(ctx,
			unchanged(key, h.index.Load()),
			lockPair(api.KVLock, key, h.record, h.session.id))
		if err == nil {
			h.index.Store(index)
		}
		switch {
		case err == nil, errors.Is(err, errConflict), ctx.Err() != nil:
			outage.ok()
			return // done, or lost, as the watch will show
		}
		outage.failed(err)
		if !pause.wait(ctx) {
			return
		}
	}
}

// tidy gives up what lies under session s with nobody here to serve under it:
// handed to us a moment after we had stopped contending, or acquired without
// our hearing of it.
func (k *Keeper) tidy(s *session) {
	for sleep(s.ctx, tidyDelay) {
		v, _, _ := k.board.read()
		if v == nil {
			continue
		}
		for name, l := range v.locks {
			if l.session != s.id || k.roster.has(name) {
				continue
			}
			k.log.Warn("giving up a lock that nobody here wants", "vip", name)
			_, err := k.consul.commit(s.ctx,
				unchanged(k.lockKey(name), l.index),
				lockPair(api.KVUnlock, k.lockKey(name), l.record, s.id))
			if err != nil {
				k.log.Debug("could not give it up", "vip", name, "error", err)
			}
		}
	}
}
