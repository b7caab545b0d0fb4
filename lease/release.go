package lease

import (
	"context"
	"errors"
	"time"

	"github.com/consul-vip/consul-vip/internal/failurelog"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// releaseTimeout bounds releasing a lock; the end of the session does the rest.
	releaseTimeout = 1500 * time.Millisecond

	// holdOffTime is how long a lock is left to others after a release that an
	// operator requested and that had no successor: enough for a `consul lock` that
	// waits, or is about to be started.
	holdOffTime = 10 * time.Second

	// acceptTimeout leaves Consul as much time as for a transfer.
	acceptTimeout = transferTimeout

	// orphanInterval is how often locks without a holder are looked for.
	orphanInterval = time.Second
)

// finalRecord is the record to release the lock with.
func (h *Held) finalRecord(reason error, unclean bool) state.Record {
	now := time.Now().UTC().Truncate(time.Second)
	before := h.Previous
	switch {
	case !h.isServing() && before.State != state.RecordUnknown && !(unclean && before.Stopped()):
		return before
	case !h.isServing() || unclean:
		r := h.record
		r.At, r.Reason = &now, reason.Error()
		return r
	}
	return state.Record{State: state.RecordReleased, Node: h.record.Node, At: &now, Reason: reason.Error()}
}

// release releases the lock and leaves record in it. It tries until it has
// succeeded, the session is lost or ctx has ended: a lock without a serving owner
// helps nobody.
func (k *Keeper) release(ctx context.Context, h *Held, record state.Record) {
	var pause consul.Backoff
	failures := failurelog.New(h.log, "releasing the lock")
	for {
		err := k.releaseOnce(ctx, h, record)
		if err == nil {
			return
		}
		failures.Record(err)
		if h.session.ctx.Err() != nil || !pause.Wait(ctx) {
			return
		}
	}
}

// releaseOnce releases the key as we left it and no other: a request that was given
// up may still arrive after the lock has become ours again.
func (k *Keeper) releaseOnce(ctx context.Context, h *Held, record state.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	key := k.keys.Lock(h.name)
	for {
		index := h.index.Load()
		_, err := k.consul.Commit(ctx,
			consul.Unchanged(key, index),
			consul.Release(key, record.Encode(), h.session.id))
		if !errors.Is(err, consul.ErrConflict) {
			return err
		}
		l, readErr := k.consul.ReadLock(ctx, key)
		switch {
		case readErr != nil:
			return readErr
		case l.Session != h.session.id:
			return nil // not ours any more
		case l.Index == index:
			return err // refused for another reason, such as a missing permission
		}
		h.index.Store(l.Index)
	}
}

// releaseAndHoldOff releases h without a successor. After a request it leaves the
// lock to others for a while.
func (k *Keeper) releaseAndHoldOff(ctx context.Context, h *Held, reason error, unclean bool) {
	k.release(ctx, h, h.finalRecord(reason, unclean))
	if errors.Is(reason, state.ErrRequested) {
		k.desired.holdOff(h.name, k.now()+holdOffTime)
	}
}

// accept deletes the release request at index, so that it is carried out once. It
// returns false if the request was withdrawn or changed, which the watch is about
// to show, or if Consul does not confirm the deletion: a request is rather not
// carried out at all than after the operator has given up.
func (k *Keeper) accept(ctx context.Context, h *Held, index uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	err := k.consul.DeleteUnchanged(ctx, k.keys.Release(h.name), index)
	if err != nil && !errors.Is(err, consul.ErrConflict) {
		h.log.Warn("could not accept the release request", "error", err)
	}
	return err == nil
}

// releaseOrphans releases the locks under session s that nothing here holds or
// contends for: a lock that was transferred to this process a moment after it had
// stopped contending, or one whose acquisition Consul did not confirm.
func (k *Keeper) releaseOrphans(s *session) {
	for consul.Sleep(s.ctx, orphanInterval) {
		v, _ := k.latest.Get()
		if v.State == nil {
			continue
		}
		for name, l := range v.Locks {
			if l.Session != s.id || k.desired.has(name) {
				continue
			}
			log := k.log.With("vip", name)
			log.Warn("releasing an orphaned lock")
			key := k.keys.Lock(name)
			_, err := k.consul.Commit(s.ctx,
				consul.Unchanged(key, l.Index),
				consul.Release(key, l.Record.Encode(), s.id))
			if err != nil {
				log.Debug("could not release the orphaned lock", "error", err)
			}
		}
	}
}
