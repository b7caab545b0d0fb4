package lease

import (
	"context"
	"fmt"

	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// forward gives a lock away that was transferred to this process although it cannot
// take it: back to its owner, which still serves, or to another member, or to nobody.
// A lock is forwarded once only.
func (w *waiting) forward(ctx context.Context, v observed, s *session, l state.Lock, why error) {
	k := w.keeper
	key := k.keys.Lock(w.name)
	record, to := w.forwardTo(v.State, l.Record, why)
	ops := []consul.Op{consul.Unchanged(key, l.Index), consul.Release(key, record.Encode(), s.id)}
	if to != "" {
		ops = append(ops, consul.Acquire(key, record.Encode(), to))
	}
	w.log.Warn("cannot take the lock, forwarding it", "to", record.Node, "reason", why)
	index, err := k.consul.Commit(ctx, ops...)
	switch {
	case err == nil:
		w.failures.Record(nil)
		w.written = mark{v.History, index}
	case ctx.Err() == nil:
		w.failures.Record(err)
		w.pause.Wait(ctx)
	}
}

// forwardTo is the record with which to forward a lock, and the session to forward it
// to; empty: nobody's. The owner hears nothing of another member's turn, so the record
// for that one keeps the nonce of the handover. A lock that goes back needs no words.
func (w *waiting) forwardTo(v *state.State, r state.Record, why error) (record state.Record, session string) {
	giver, alive := v.Members[r.From]
	_, contends := giver.VIPs[w.name]
	switch {
	case !r.TransferredTo(w.keeper.node) || r.Hops > 0:
		return r.Unserved(), ""
	case r.At == nil && alive && contends:
		return state.Record{
			State: state.RecordHandover, From: w.keeper.node, Node: r.From, Session: giver.Session, TTL: r.TTL,
			Version: w.keeper.cfg.Version, Before: r.Before, Contested: r.Contested, Unheard: r.Unheard, Hops: r.Hops + 1,
			At: wallClock(), Reason: fmt.Sprintf("%s cannot take it: %s", w.keeper.node, why),
		}, giver.Session
	}
	to, ok := v.Successor(w.name, w.keeper.node)
	if !ok {
		return r.Unserved(), ""
	}
	r.Node, r.Session, r.Hops = to.Node, to.Session, r.Hops+1
	return r, to.Session
}
