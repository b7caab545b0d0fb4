package simconsul

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// serfHealth is the check of a node itself.
const serfHealth = "serfHealth"

// maxLockDelay is the longest lock-delay that Consul grants.
const maxLockDelay = time.Minute

// store is what Consul's servers replicate. It is immutable once it was committed:
// each write makes a new one, with a new index. So a snapshot is a pointer, and a
// server that lags behind has an older store.
type store struct {
	index    uint64
	keys     map[string]*api.KVPair
	deleted  map[string]tombstone // keys by the time they were deleted
	kvIndex  uint64               // of the last change of a key
	sessions map[string]*session
	sessIdx  uint64             // of the last change of a session
	nodes    map[string]bool    // in the catalog
	checks   map[checkID]string // status

	// Of the write that made this store.
	changes []Change
	delays  map[string]time.Duration // lock-delays to begin now
	ended   []ended
}

type checkID struct{ node, check string }

type tombstone struct {
	index uint64
	at    time.Time
}

// ended is a session that a write has ended.
type ended struct{ id, why string }

// session is immutable once it is in a store.
type session struct {
	Session
	behavior      string
	nodeChecks    []string
	serviceChecks []string
	index         uint64
}

func newStore(index uint64) *store {
	return &store{
		index: index, keys: map[string]*api.KVPair{}, deleted: map[string]tombstone{},
		sessions: map[string]*session{}, nodes: map[string]bool{}, checks: map[checkID]string{},
	}
}

// next returns a copy to write to, with the next index.
func (s *store) next() *store {
	return &store{
		index: s.index + 1, kvIndex: s.kvIndex, sessIdx: s.sessIdx,
		keys: maps.Clone(s.keys), deleted: maps.Clone(s.deleted), sessions: maps.Clone(s.sessions),
		nodes: maps.Clone(s.nodes), checks: maps.Clone(s.checks),
	}
}

// set writes a key as Consul's kvsSetTxn does: a write that changes nothing does not
// move the key's index. The session of the pair counts only if it is the caller's to
// change.
func (s *store) set(p api.KVPair, changeSession bool, why string) *api.KVPair {
	old := s.keys[p.Key]
	p.CreateIndex, p.ModifyIndex = s.index, s.index
	switch {
	case old == nil && !changeSession:
		p.Session = ""
	case old != nil:
		p.CreateIndex = old.CreateIndex
		if !changeSession {
			p.Session, p.LockIndex = old.Session, 0 // as Consul: a plain write forgets the count
		}
		if same(old, &p) {
			return old
		}
	}
	s.keys[p.Key], s.kvIndex = &p, s.index
	s.changes = append(s.changes, Change{Index: s.index, Key: p.Key, Old: old, New: &p, Reason: why})
	return &p
}

func same(a, b *api.KVPair) bool {
	return a.LockIndex == b.LockIndex && a.Flags == b.Flags && a.Session == b.Session && bytes.Equal(a.Value, b.Value)
}

// lock returns why Consul refuses the lock, or an empty string.
func (s *store) lock(p api.KVPair, why string) (*api.KVPair, string) {
	old := s.keys[p.Key]
	switch {
	case p.Session == "":
		return nil, "missing session"
	case s.sessions[p.Session] == nil:
		return nil, fmt.Sprintf("invalid session %q", p.Session)
	case old == nil:
		p.LockIndex = 1
	case old.Session == p.Session:
		p.LockIndex = old.LockIndex
	case old.Session != "":
		return nil, fmt.Sprintf("failed to lock key %q, lock is already held", p.Key)
	default:
		p.LockIndex = old.LockIndex + 1
	}
	return s.set(p, true, why), ""
}

// unlock takes the session off a key. Any client may do that.
func (s *store) unlock(p api.KVPair, why string) (*api.KVPair, string) {
	old := s.keys[p.Key]
	switch {
	case p.Session == "":
		return nil, "missing session"
	case old == nil || old.Session != p.Session:
		return nil, fmt.Sprintf("failed to unlock key %q, lock isn't held, or is held by another session", p.Key)
	}
	p.Session, p.LockIndex = "", old.LockIndex
	return s.set(p, true, why), ""
}

func (s *store) delete(key, why string, now time.Time) {
	old := s.keys[key]
	if old == nil {
		return
	}
	delete(s.keys, key)
	s.deleted[key], s.kvIndex = tombstone{s.index, now}, s.index
	s.changes = append(s.changes, Change{Index: s.index, Key: key, Old: old, Reason: why})
}

// list returns the keys below a prefix in order, and the index of the list: of its
// last change, or of the last change of any key if there never was one below it.
func (s *store) list(prefix string) (pairs []*api.KVPair, index uint64) {
	for key, p := range s.keys {
		if strings.HasPrefix(key, prefix) {
			pairs = append(pairs, p)
			index = max(index, p.ModifyIndex)
		}
	}
	slices.SortFunc(pairs, func(a, b *api.KVPair) int { return cmp.Compare(a.Key, b.Key) })
	for key, t := range s.deleted {
		if strings.HasPrefix(key, prefix) {
			index = max(index, t.index)
		}
	}
	if index == 0 || prefix == "" {
		index = max(s.kvIndex, 1)
	}
	return pairs, index
}

// listIndex is the index of the list alone.
func (s *store) listIndex(prefix string) (index uint64) {
	for key, p := range s.keys {
		if p.ModifyIndex > index && strings.HasPrefix(key, prefix) {
			index = p.ModifyIndex
		}
	}
	for key, t := range s.deleted {
		if t.index > index && strings.HasPrefix(key, prefix) {
			index = t.index
		}
	}
	if index == 0 || prefix == "" {
		return max(s.kvIndex, 1)
	}
	return index
}

// reap forgets when keys were deleted that long ago.
func (s *store) reap(before time.Time) {
	for key, t := range s.deleted {
		if t.at.Before(before) {
			delete(s.deleted, key)
		}
	}
}

// begin puts a session into the store, or returns why Consul refuses it.
func (s *store) begin(n *session) string {
	if !s.nodes[n.Node] {
		return "Missing node registration"
	}
	for _, check := range n.checks() {
		switch s.checks[checkID{n.Node, check}] {
		case "":
			return fmt.Sprintf("Missing check '%s' registration", check)
		case api.HealthCritical:
			return fmt.Sprintf("Check '%s' is in critical state", check)
		}
	}
	n.index = s.index
	s.sessions[n.ID], s.sessIdx = n, s.index
	return ""
}

func (n *session) checks() []string { return slices.Concat(n.nodeChecks, n.serviceChecks) }

// end ends a session, which frees its keys. It reports whether there was one.
func (s *store) end(id, why string, now time.Time) bool {
	n := s.sessions[id]
	if n == nil {
		return false
	}
	delete(s.sessions, id)
	s.sessIdx = s.index
	s.ended = append(s.ended, ended{id, why})
	reason := "session " + n.Name + " ended: " + why
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		p := s.keys[key]
		if p.Session != id {
			continue
		}
		if n.behavior == api.SessionBehaviorDelete {
			s.delete(key, reason, now)
		} else {
			q := *p
			q.Session = ""
			s.set(q, true, reason)
		}
		if n.LockDelay > 0 {
			if s.delays == nil {
				s.delays = map[string]time.Duration{}
			}
			s.delays[key] = min(n.LockDelay, maxLockDelay)
		}
	}
	return true
}

// setCheck writes the status of a check to the catalog. A critical one ends the
// sessions that name it.
func (s *store) setCheck(id checkID, status string, now time.Time) {
	s.checks[id] = status
	if status == api.HealthCritical {
		s.endWith(id, "check "+id.check+" is critical", now)
	}
}

// removeCheck takes a check out of the catalog, which ends the sessions that name it.
func (s *store) removeCheck(id checkID, now time.Time) {
	delete(s.checks, id)
	s.endWith(id, "check "+id.check+" is gone", now)
}

func (s *store) endWith(id checkID, why string, now time.Time) {
	for _, n := range s.oldestFirst() {
		if n.Node == id.node && slices.Contains(n.checks(), id.check) {
			s.end(n.ID, why, now)
		}
	}
}

// removeNode takes a node out of the catalog with all that is its.
func (s *store) removeNode(node, why string, now time.Time) {
	delete(s.nodes, node)
	for _, n := range s.oldestFirst() {
		if n.Node == node {
			s.end(n.ID, why, now)
		}
	}
	for id := range s.checks {
		if id.node == node {
			delete(s.checks, id)
		}
	}
}

func (s *store) oldestFirst() []*session {
	return slices.SortedFunc(maps.Values(s.sessions), func(a, b *session) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.ID, b.ID))
	})
}
