package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/consul/api"
)

// enroll keeps this process's member key under session s and up to date, for as
// long as s lives and Leave has not been called: whatever deletes or takes the
// key, it is written again.
func (k *Keeper) enroll(s *session) {
	var (
		written uint64 // views older than this do not show our last write yet
		pause   backoff
		outage  = outage{log: k.log, what: "enrolling as a member"}
	)
	for s.ctx.Err() == nil {
		v, _, changed := k.board.read()
		locks, leaving, altered := k.roster.read()
		if v == nil || v.index < written || v.members[k.node].is(s.id, locks, leaving) {
			select {
			case <-changed:
			case <-altered:
			case <-s.ctx.Done():
			}
			continue
		}
		index, err := k.consul.commit(s.ctx, k.membership(s, locks, leaving)...)
		switch {
		case s.ctx.Err() != nil:
		case errors.Is(err, errConflict) && !leaving:
			// Somebody else's key, or the session has ended, which is on its way.
			k.log.Debug("did not get the member key", "error", err)
			pause.wait(s.ctx)
		case err != nil && !errors.Is(err, errConflict):
			outage.failed(err)
			pause.wait(s.ctx)
		default:
			outage.ok()
			pause.reset()
			written = max(index, v.index+1)
		}
	}
}

// is reports whether m is what a process with session and locks has enrolled.
func (m member) is(session string, locks map[string]int, leaving bool) bool {
	if leaving {
		return m.Session != session
	}
	return m.Session == session && maps.Equal(m.VIPs, locks)
}

// membership writes the member key, or deletes it when leaving.
func (k *Keeper) membership(s *session, locks map[string]int, leaving bool) []*api.KVTxnOp {
	if leaving {
		return []*api.KVTxnOp{
			{Verb: api.KVCheckSession, Key: k.memberKey(), Session: s.id},
			{Verb: api.KVDelete, Key: k.memberKey()},
		}
	}
	value := member{Node: k.node, Session: s.id, VIPs: locks, Version: k.cfg.Version}.encode()
	return []*api.KVTxnOp{{Verb: api.KVLock, Key: k.memberKey(), Value: value, Session: s.id}}
}

// Leave takes this process off the members: nobody hands it anything any more.
// What it holds it goes on holding. Call it when the end is decided on, before
// the contexts of the holds end.
func (k *Keeper) Leave() { k.roster.close() }

// evictPredecessor ends the sessions that a dead process of this node left
// behind, so that its locks are free at once. It runs until it succeeded once,
// before this process has a session of its own.
func (k *Keeper) evictPredecessor(ctx context.Context) error {
	if k.evicted {
		return nil
	}
	pairs, index, err := k.consul.list(ctx, k.cfg.Prefix+"/", 0)
	if err != nil {
		return err
	}
	for _, id := range newView(k.cfg.Prefix, pairs, index).sessionsOf(k.node) {
		entry, err := k.consul.sessionInfo(ctx, id)
		switch {
		case err != nil:
			return err
		case entry == nil || entry.Name != sessionName:
			continue
		case entry.Node != k.agentNode:
			return fmt.Errorf("%w: %q is in use by an instance on Consul's node %q", ErrNodeTaken, k.node, entry.Node)
		}
		k.log.Info("ending the session of a predecessor", "session", id)
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		err = k.consul.destroySession(ctx, id)
		cancel()
		if err != nil {
			return err
		}
	}
	k.evicted = true
	return nil
}

// sessionsOf lists the sessions that hold a key in the name of node.
func (v *view) sessionsOf(node string) []string {
	var ids []string
	if m, ok := v.members[node]; ok {
		ids = append(ids, m.Session)
	}
	for _, l := range v.locks {
		if l.session != "" && l.record.Node == node && !slices.Contains(ids, l.session) {
			ids = append(ids, l.session)
		}
	}
	return ids
}
