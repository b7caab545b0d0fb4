package lease

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// rankDelay is what each rank lets pass before it contends, so that the best
// one there gets the lock: several times what a commit takes.
const rankDelay = 30 * time.Millisecond

// enroll keeps this process's member key under session s, for as long as s
// lives: whatever deletes or takes the key, it is written again.
func (k *Keeper) enroll(s *session) {
	var (
		written uint64 // views older than this do not show our last write yet
		pause   backoff
		outage  = outage{log: k.log, what: "enrolling as a member"}
	)
	for s.ctx.Err() == nil {
		v, _, changed := k.board.read()
		if v == nil || v.index < written || v.members[k.node].Session == s.id {
			select {
			case <-changed:
			case <-s.ctx.Done():
			}
			continue
		}
		value := member{Node: k.node, Session: s.id, VIPs: k.cfg.Names, Version: k.cfg.Version}.encode()
		index, err := k.consul.commit(s.ctx, &api.KVTxnOp{Verb: api.KVLock, Key: k.memberKey(), Value: value, Session: s.id})
		switch {
		case s.ctx.Err() != nil:
		case err != nil:
			outage.failed(err)
			pause.wait(s.ctx)
		default:
			outage.ok()
			pause.reset()
			written = index
		}
	}
}

// rank is how many live members are better placed for name than this node: by
// priority, then by rendezvous hashing, which spreads many names evenly and
// moves only those of a node that comes or goes.
func (k *Keeper) rank(v *view, name string) int {
	own := contender{priority: k.cfg.Names[name], score: score(name, k.node)}
	rank := 0
	for node, m := range v.members {
		priority, contends := m.VIPs[name]
		if !contends || node == k.node {
			continue
		}
		if (contender{priority: priority, score: score(name, node)}).compare(own) < 0 {
			rank++
		}
	}
	return rank
}

type contender struct {
	priority int
	score    [sha256.Size]byte
}

func (c contender) compare(o contender) int {
	return cmp.Or(cmp.Compare(c.priority, o.priority), bytes.Compare(o.score[:], c.score[:]))
}

func score(name, node string) [sha256.Size]byte {
	return sha256.Sum256([]byte(name + "\x00" + node))
}

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

// resign deletes the member key, if it is still ours.
func (k *Keeper) resign(ctx context.Context, s *session) error {
	_, err := k.consul.commit(ctx,
		&api.KVTxnOp{Verb: api.KVCheckSession, Key: k.memberKey(), Session: s.id},
		&api.KVTxnOp{Verb: api.KVDelete, Key: k.memberKey()})
	if errors.Is(err, errConflict) {
		return nil
	}
	return err
}
