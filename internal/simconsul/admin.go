package simconsul

import (
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/consul/api"
)

// Get returns a key as it is committed, or nil.
func (c *Cluster) Get(key string) *api.KVPair {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.keys[key]
}

// List returns the keys below a prefix, in order.
func (c *Cluster) List(prefix string) []*api.KVPair {
	c.mu.Lock()
	defer c.mu.Unlock()
	pairs, _ := c.store.list(prefix)
	return pairs
}

// Index returns the index of the last write.
func (c *Cluster) Index() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.index
}

// Sessions returns the sessions that there are, the oldest first.
func (c *Cluster) Sessions() (sessions []Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.store.oldestFirst() {
		sessions = append(sessions, n.Session)
	}
	return sessions
}

// Session returns a session, if it exists.
func (c *Cluster) Session(id string) (Session, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.store.sessions[id]; n != nil {
		return n.Session, true
	}
	return Session{}, false
}

// CheckStatus returns the status of a check in the catalog, or an empty string. The
// check of the node itself is serfHealth.
func (c *Cluster) CheckStatus(node, check string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.checks[checkID{node, check}]
}

// write commits a write of somebody else at once.
func (c *Cluster) write(write func(*store) (refusal string)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leading() {
		return ErrNoLeader
	}
	var refusal string
	c.commit(func(s *store) bool {
		refusal = write(s)
		return refusal == ""
	})
	if refusal != "" {
		return fmt.Errorf("%w: %s", ErrRefused, refusal)
	}
	return nil
}

// Put writes a key as "consul kv put" does. A session stays on it.
func (c *Cluster) Put(key, value string) error {
	return c.write(func(s *store) string {
		s.set(api.KVPair{Key: key, Value: []byte(value)}, false, "put")
		return ""
	})
}

// Delete deletes a key, whatever session is on it.
func (c *Cluster) Delete(key string) error {
	return c.write(func(s *store) string {
		s.delete(key, "deleted", time.Now())
		return ""
	})
}

// CreateSession creates a session of a node, which ends with the node.
func (c *Cluster) CreateSession(n Session) (id string, err error) {
	created := &session{Session: n, behavior: api.SessionBehaviorRelease, nodeChecks: []string{serfHealth}}
	err = c.write(func(s *store) string { return c.begin(s, created) })
	return created.ID, err
}

// DestroySession ends a session.
func (c *Cluster) DestroySession(id string) error {
	return c.write(func(s *store) string {
		s.end(id, "destroyed", time.Now())
		return ""
	})
}

// Acquire locks a key for a session, as "consul lock" does.
func (c *Cluster) Acquire(key, value, session string) error {
	return c.operate(api.KVLock, key, value, session)
}

// Release takes a session off a key, as "consul lock" does.
func (c *Cluster) Release(key, value, session string) error {
	return c.operate(api.KVUnlock, key, value, session)
}

func (c *Cluster) operate(verb api.KVOp, key, value, session string) error {
	op := &api.KVTxnOp{Verb: verb, Key: key, Value: []byte(value), Flags: api.LockFlagValue, Session: session}
	return c.write(func(s *store) string {
		if why := c.delayed(op); why != "" {
			return why
		}
		_, why := s.operate(op, "another client")
		return why
	})
}

// Snapshot is what the servers had at a moment.
type Snapshot struct{ store *store }

// Snapshot returns what the servers have.
func (c *Cluster) Snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Snapshot{c.store}
}

// Restore replaces what the servers have by a snapshot: keys, sessions, the catalog and
// the indexes of all of them. Lock-delays are forgotten; every blocking query ends.
func (c *Cluster) Restore(snapshot Snapshot) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leading() {
		return ErrNoLeader
	}
	c.logf("snapshot restored: the index goes from %d to %d", c.store.index, snapshot.store.index)
	s := snapshot.store.next()
	s.index, s.kvIndex = snapshot.store.index, snapshot.store.kvIndex
	s.changes = difference(c.store.keys, s.keys, s.index)
	c.stopTimers()
	c.history, c.lockDelays = nil, map[string]time.Time{}
	c.restored++
	c.publish(s)
	c.startTimers()
	return nil
}

// restorations returns how many snapshots have been restored.
func (c *Cluster) restorations() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restored
}

// difference lists what a restored snapshot has changed.
func difference(old, restored map[string]*api.KVPair, index uint64) (changes []Change) {
	all := maps.Clone(old)
	maps.Copy(all, restored)
	for key := range all {
		if old[key] != restored[key] {
			changes = append(changes, Change{Index: index, Key: key, Old: old[key], New: restored[key], Reason: "snapshot restored"})
		}
	}
	return changes
}
