package lease

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

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
func (h *Held) finalRecord(reason error, left Left) state.Record {
	own, now := h.record, wallClock()
	own.Before = h.Before
	if h.isBound() {
		own.Before = nil
	}
	switch {
	case left.Contested != nil:
		return h.contestedRecord(*left.Contested, own, left, reason, now)
	case !h.isBound() && !left.Unclean && h.Previous.State != state.RecordUnknown:
		return h.Previous.Unserved()
	case !h.isBound() || left.Unclean:
		own.At, own.Reason = now, reason.Error()
		return own
	}
	return state.Record{
		State: state.RecordReleased, Node: own.Node, At: now, Reason: reason.Error(),
		Contested: h.contender.stranger.recall(h.keeper.now()), Unheard: own.Unheard,
	}
}

// contestedRecord tells the others of the stranger that this process has met.
func (h *Held) contestedRecord(c state.Contested, own state.Record, left Left, reason error, now *time.Time) state.Record {
	c.By, c.Since, c.At = own.Node, *now, *now
	if h.Contested != nil && h.Contested.MAC == c.MAC {
		c.Since = h.Contested.Since
	}
	before := own.Before
	if left.Unclean {
		before = own.MayAnswer()
	}
	return state.Record{
		State: state.RecordContested, Node: own.Node, At: now, Reason: reason.Error(),
		Before: before, Contested: &c, Unheard: own.Unheard,
	}
}

// release releases the lock with its final record. It tries until it has
// succeeded, the session is lost or ctx has ended: a lock without a serving owner
// helps nobody.
func (h *Held) release(ctx context.Context, reason error, left Left) {
	record := h.finalRecord(reason, left)
	var pause consul.Backoff
	failures := failurelog.New(h.log, "releasing the lock")
	for {
		err := h.releaseOnce(ctx, record)
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
func (h *Held) releaseOnce(ctx context.Context, record state.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	key := h.keeper.keys.Lock(h.contender.name)
	for {
		index, err := h.keeper.consul.Commit(ctx,
			consul.Unchanged(key, h.written.index),
			consul.Release(key, record.Encode(), h.session.id))
		if err == nil {
			h.written.index = index
			return nil
		}
		if !errors.Is(err, consul.ErrConflict) {
			return err
		}
		l, readErr := h.keeper.consul.ReadLock(ctx, key)
		switch {
		case readErr != nil:
			return readErr
		case l.Session != h.session.id:
			return nil // not ours any more
		case l.Index != h.written.index && l.Record.TransferredTo(h.keeper.node):
			return nil // transferred to us again meanwhile: the giver may serve still
		case l.Index == h.written.index:
			return err // refused for another reason, such as a missing permission
		}
		h.written.index = l.Index
	}
}

// accept deletes the release request at index, so that it is carried out once. It
// returns false if the request was withdrawn or changed, which the watch is about
// to show, or if Consul does not confirm the deletion: a request is rather not
// carried out at all than after the operator has given up.
func (h *Held) accept(ctx context.Context, index uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	err := h.keeper.consul.DeleteUnchanged(ctx, h.keeper.keys.Release(h.contender.name), index)
	if err != nil && !errors.Is(err, consul.ErrConflict) {
		h.log.Warn("could not accept the release request", "error", err)
	}
	return err == nil
}

// releaseOrphans releases the locks under session s that this process does not
// contend for: a lock that was transferred to it a moment after it had stopped
// contending, or one whose acquisition Consul did not confirm.
func (k *Keeper) releaseOrphans(s *session) {
	for consul.Sleep(s.ctx, orphanInterval) {
		v, _ := k.latest.Get()
		if v.State == nil {
			continue
		}
		var g errgroup.Group
		var names []string
		for name, l := range v.Locks {
			if l.Session == s.id && !k.contenders.has(name) {
				names = append(names, name)
				g.Go(func() error { return k.releaseOrphan(s, name, l) })
			}
		}
		if len(names) > 0 {
			k.log.Warn("releasing orphaned locks", "locks", len(names), "first", slices.Min(names))
			if err := g.Wait(); err != nil {
				k.log.Debug("could not release every orphaned lock", "error", err)
			}
		}
	}
}

func (k *Keeper) releaseOrphan(s *session, name string, l state.Lock) error {
	key := k.keys.Lock(name)
	_, err := k.consul.Commit(s.ctx,
		consul.Unchanged(key, l.Index),
		consul.Release(key, l.Record.Unserved().Encode(), s.id))
	return err
}
