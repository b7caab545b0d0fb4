// Package state is the meaning of the keys below the prefix: which instance holds
// which lock, which instances there are, what operators want, and what follows
// from it. Every instance and every operator's command sees the same keys and
// must come to the same conclusion, so everything here is a function of the keys
// alone: the package asks nobody, waits for nothing and has no clock.
//
//   - [Keys] names the keys, [Record] and [Member] are the values of two of them.
//   - [State] is one picture of all keys.
//   - Its rank says which member should have a lock ([State.Position],
//     [State.Successor]), its decisions which member may have it now
//     ([State.Ineligible], [State.Transfer]), its explanations tell people why
//     ([State.Remarks], [State.Situation]).
package state

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Nobody is the value of a pin with which no node may hold the lock.
const Nobody = "-"

// ErrIncomplete is the reason for which something is not known: see [State.Filtered].
var ErrIncomplete = errors.New("the list is incomplete: the ACL token may not read all keys")

// State is everything below the prefix at one index of Consul's. It is immutable
// and safe for concurrent use.
type State struct {
	// Index is Consul's index of the picture. A State is older than a write of the
	// same History that has a higher one.
	Index uint64
	// History counts how often the Index went back: a leader that had made sure that
	// it is one showed a lower Index than this process had seen before. A snapshot was
	// restored, or the servers are others; or, in ordinary life, a key was deleted last,
	// and 15 minutes later Consul has forgotten the index of that. The picture itself is
	// true, but the indexes of pictures with another History do not compare with its
	// own. Each process counts for itself.
	History uint64
	// Filtered: Consul left out keys that the ACL token may not read, so nothing follows
	// from a key that is missing: a lock may exist and be held ([State.LockKnown]), a
	// node may be a member, drained or have a pin. Consul does not tell the anonymous
	// token that it left out something.
	Filtered bool
	Count    int                       // of the keys, also of those with unknown names
	Locks    map[string]Lock           // by name
	Members  map[string]Member         // by node; those with a session only
	Drains   map[string]Drain          // by node
	Pins     map[string]Pin            // by name
	Requests map[string]ReleaseRequest // by name

	keys     Keys
	rankings rankings
	members  map[string]uint64 // the ModifyIndex of each key in Members
}

// Lock is a lock's key. The zero Lock is a key that does not exist.
type Lock struct {
	Session string // of the holder; empty where the lock is free
	Index   uint64 // the key's ModifyIndex
	Record  Record
}

// Pin allows a lock to one node only.
type Pin struct {
	Node  string // or Nobody; empty means that the pin says nothing
	Index uint64 // the key's ModifyIndex
}

// Drain allows a node no lock.
type Drain struct {
	Index uint64 // the key's ModifyIndex
}

// ReleaseRequest asks a node to release a lock once, if it holds it.
type ReleaseRequest struct {
	Node  string
	Index uint64 // the key's ModifyIndex
}

// List is Consul's answer to a list of the keys below a prefix.
type List struct {
	Pairs    api.KVPairs
	Index    uint64
	History  uint64
	Filtered bool // keys were left out
}

// New reads the keys below a prefix as they were at index. Keys with unknown
// names are left to their writers.
func New(keys Keys, pairs api.KVPairs, index uint64) *State {
	return Next(nil, keys, List{Pairs: pairs, Index: index})
}

// Next reads a list that came after last, which may be nil. It returns last itself
// where nothing has changed. Records that have not changed are taken from there,
// because parsing thousands of them at each change of one costs more than all else
// that a change causes.
func Next(last *State, keys Keys, list List) *State {
	s := &State{
		Index: list.Index, History: list.History, Filtered: list.Filtered, Count: len(list.Pairs), keys: keys,
		Locks: map[string]Lock{}, Members: map[string]Member{}, Drains: map[string]Drain{},
		Pins: map[string]Pin{}, Requests: map[string]ReleaseRequest{},
		members: map[string]uint64{},
	}
	// Another history may have used the same index for another value.
	follows := last != nil && last.History == s.History && last.keys == keys
	if !follows {
		last = &State{}
	}
	s.rankings = newRankings(s)
	for _, p := range list.Pairs {
		s.add(p, last)
	}
	if follows && s.equal(last) {
		return last
	}
	return s
}

// equal reports whether s and last, from which s took what has not changed, are the
// same picture.
func (s *State) equal(last *State) bool {
	return s.Index == last.Index && s.Filtered == last.Filtered && s.Count == last.Count &&
		maps.EqualFunc(s.Locks, last.Locks, func(a, b Lock) bool { return a.Index == b.Index && a.Session == b.Session }) &&
		maps.EqualFunc(s.Members, last.Members, func(a, b Member) bool { return a.Session == b.Session }) &&
		maps.Equal(s.members, last.members) && maps.Equal(s.Drains, last.Drains) &&
		maps.Equal(s.Pins, last.Pins) && maps.Equal(s.Requests, last.Requests)
}

func (s *State) add(p *api.KVPair, last *State) {
	dir, base, ok := s.keys.split(p.Key)
	switch {
	case !ok || base == "":
	case dir == membersDir:
		s.addMember(base, p, last)
	case dir == drainDir:
		s.Drains[base] = Drain{p.ModifyIndex}
	case base == lockBase:
		s.addLock(dir, p, last)
	case base == pinBase:
		s.Pins[dir] = Pin{text(p), p.ModifyIndex}
	case base == releaseBase:
		s.Requests[dir] = ReleaseRequest{text(p), p.ModifyIndex}
	}
}

func (s *State) addMember(node string, p *api.KVPair, last *State) {
	if p.Session == "" {
		return
	}
	m, known := last.Members[node]
	if !known || m.Session != p.Session || last.members[node] != p.ModifyIndex {
		m = Member{}
		if json.Unmarshal(p.Value, &m) != nil {
			return
		}
	}
	m.Session = p.Session // the key's session counts, not the value's
	s.Members[node], s.members[node] = m, p.ModifyIndex
}

func (s *State) addLock(name string, p *api.KVPair, last *State) {
	l, known := last.Locks[name]
	if !known || l.Session != p.Session || l.Index != p.ModifyIndex {
		l = NewLock(p)
	}
	s.Locks[name] = l
}

// NewLock reads the key of a lock.
func NewLock(p *api.KVPair) Lock {
	return Lock{Session: p.Session, Index: p.ModifyIndex, Record: ParseRecord(p.Value)}
}

// text is a value as a person writes it, perhaps with a newline at its end.
func text(p *api.KVPair) string { return strings.TrimSpace(string(p.Value)) }

// Pin is the only node that may hold a lock, [Nobody], or empty where every node
// may.
func (s *State) Pin(name string) string { return s.Pins[name].Node }

// Drained reports whether a node may hold no lock.
func (s *State) Drained(node string) bool {
	_, drained := s.Drains[node]
	return drained
}

// Unheard says of a member, whose host does not answer, that it may be dead. Nil: it is no
// member.
func (s *State) Unheard(node string) *Unheard {
	if _, member := s.Members[node]; !member {
		return nil
	}
	return &Unheard{node, s.members[node]}
}

// StillUnheard returns u as long as the member has not written its key since; else nil.
func (s *State) StillUnheard(u *Unheard) *Unheard {
	if u == nil || s.members[u.Node] != u.Member {
		return nil
	}
	return u
}

// unheard returns the members of which nothing shows that they live.
func (s *State) unheard() map[string]bool {
	nodes := map[string]bool{}
	for _, l := range s.Locks {
		if u := s.StillUnheard(l.Record.Unheard); u != nil {
			nodes[u.Node] = true
		}
	}
	return nodes
}

// LockKnown reports whether s tells the state of a lock: its key is there, or no key
// is missing.
func (s *State) LockKnown(name string) bool {
	_, there := s.Locks[name]
	return there || !s.Filtered
}

// SessionsOf lists the sessions that hold a key in the name of node.
func (s *State) SessionsOf(node string) []string {
	var ids []string
	if m, ok := s.Members[node]; ok {
		ids = append(ids, m.Session)
	}
	for _, l := range s.Locks {
		if l.Session != "" && l.Record.Node == node && !slices.Contains(ids, l.Session) {
			ids = append(ids, l.Session)
		}
	}
	return ids
}
