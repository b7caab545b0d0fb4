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

// keepMember keeps this process's member key under session s and up to date, for
// as long as s lives and Leave has not been called: whatever happens to the key, it
// is written again.
func (k *Keeper) keepMember(s *session) {
	var (
		written  mark // our last write
		pause    consul.Backoff
		failures = failurelog.New(k.log, "registering as a member")
	)
	for s.ctx.Err() == nil {
		v, seen := k.latest.Get()
		setback := k.setbackLeft()
		entry, leaving, altered := k.entry(s)
		if v.State == nil || !written.shownBy(v.State) || current(v.Members[k.node], entry, leaving) {
			k.awaitChange(s, seen, altered, setback)
			continue
		}
		ops := []consul.Op{consul.Enroll(k.keys.Member(k.node), entry.Encode(), s.id)}
		if leaving {
			ops = k.withdraw(s)
		}
		index, err := k.consul.Commit(s.ctx, ops...)
		switch {
		case s.ctx.Err() != nil:
		case errors.Is(err, consul.ErrConflict) && !leaving:
			// Another session has the key, or ours has ended, which the session's
			// goroutines are about to find out.
			k.log.Debug("member key not acquired", "error", err)
			pause.Wait(s.ctx)
		case err != nil && !errors.Is(err, consul.ErrConflict):
			failures.Record(err)
			pause.Wait(s.ctx)
		default:
			failures.Record(nil)
			pause.Reset()
			written = mark{v.History, max(index, v.Index+1)}
		}
	}
}

// awaitChange returns when the member key or what it should say may have changed.
func (k *Keeper) awaitChange(s *session, seen, altered <-chan struct{}, setback time.Duration) {
	var over <-chan time.Time
	if setback > 0 {
		over = time.After(setback)
	}
	select {
	case <-seen:
	case <-altered:
	case <-over:
	case <-s.ctx.Done():
	}
}

// entry is the value of the member key under s, whether this process is about to
// end, and a channel that closes when either changes.
func (k *Keeper) entry(s *session) (m state.Member, leaving bool, altered <-chan struct{}) {
	m, leaving, altered = k.contenders.member()
	m.Node, m.Session, m.Version = k.node, s.id, k.cfg.Version
	return m, leaving, altered
}

// current reports whether the member key says what it should.
func current(m, entry state.Member, leaving bool) bool {
	if leaving {
		return m.Session != entry.Session
	}
	return m.Same(entry)
}

// withdraw deletes the member key if it is ours.
func (k *Keeper) withdraw(s *session) []consul.Op {
	key := k.keys.Member(k.node)
	return []consul.Op{consul.HeldBy(key, s.id), consul.Delete(key)}
}

// evictPrevious ends the sessions that a dead process of this node left behind, so
// that its locks are free at once. It does so until it has succeeded once, before
// this process has a session of its own.
func (k *Keeper) evictPrevious(ctx context.Context) error {
	if k.evicted {
		return nil
	}
	s, err := k.consul.List(ctx, k.keys)
	if err != nil {
		return err
	}
	for _, id := range s.SessionsOf(k.node) {
		previous, err := k.consul.Session(ctx, id)
		switch {
		case err != nil:
			return err
		case previous.Name != sessionName:
			continue
		case previous.Node != k.agentNode:
			return fmt.Errorf("%w: %q is in use by an instance on Consul's node %q", ErrNodeTaken, k.node, previous.Node)
		}
		k.log.Info("destroying the session of a previous process", "session", id)
		if err := k.consul.DestroySession(ctx, id); err != nil {
			return err
		}
	}
	k.evicted = true
	return nil
}
