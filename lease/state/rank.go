package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"iter"
	"maps"
	"slices"
	"sync"
)

// Candidate is a live member that could have a certain lock.
type Candidate struct {
	Node     string
	Session  string
	priority int
	score    [sha256.Size]byte
}

// ranking orders the candidates of every lock, the best first.
type ranking map[string][]Candidate

// rankings are the rankings of one State. Each is worked out when it is first
// asked for, and every instance works out the same.
type rankings struct {
	free       func() ranking               // which member should take a lock that is free
	ideal      func() ranking               // which member should have it if all locks were free
	successors func(without string) ranking // which member should get what one member transfers
}

func newRankings(s *State) rankings {
	var mu sync.Mutex
	successors := map[string]ranking{}
	return rankings{
		free:  sync.OnceValue(func() ranking { return rank(s, s.Locks, "") }),
		ideal: sync.OnceValue(func() ranking { return rank(s, nil, "") }),
		successors: func(without string) ranking {
			mu.Lock()
			defer mu.Unlock()
			if successors[without] == nil {
				successors[without] = rank(s, s.Locks, without)
			}
			return successors[without]
		},
	}
}

// rank orders the candidates by priority; then come those with less than their
// share of the locks; then rendezvous hashing decides, so that few locks move when
// a member comes or goes. The share spreads many locks evenly, which hashing alone
// does only roughly. It counts the locks that a member holds and those that the
// ranking has assigned to it so far. A drained member has no position and no share,
// and its locks count as free. So does one whose host may be dead.
func rank(s *State, locks map[string]Lock, without string) ranking {
	r := ranking{}
	load := map[string]int{} // by session
	unheard := s.unheard()
	for node, m := range s.Members {
		if node == without || s.Drained(node) || unheard[node] {
			continue
		}
		load[m.Session] = 0
		for name, priority := range m.VIPs {
			r[name] = append(r[name], Candidate{node, m.Session, priority, score(name, node)})
		}
	}
	share := (len(r) + len(load) - 1) / max(len(load), 1)
	for _, l := range locks {
		if _, member := load[l.Session]; member {
			load[l.Session]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r)) {
		slices.SortFunc(r[name], func(a, b Candidate) int {
			return cmp.Or(
				cmp.Compare(a.priority, b.priority),
				cmp.Compare(excess(load[a.Session], share), excess(load[b.Session], share)),
				bytes.Compare(b.score[:], a.score[:]))
		})
		if _, held := load[locks[name].Session]; !held {
			load[r[name][0].Session]++
		}
	}
	return r
}

// excess is how much a load is at or above its share.
func excess(load, share int) int { return max(load-share+1, 0) }

func score(name, node string) [sha256.Size]byte {
	return sha256.Sum256([]byte(name + "\x00" + node))
}

// position is node's position among the candidates for a lock, 0 for the best. A
// node that is not among them yet has no reason to wait for a better one.
func (r ranking) position(name, node string) int {
	return max(slices.IndexFunc(r[name], func(c Candidate) bool { return c.Node == node }), 0)
}

// Position is the number of members that should rather take the free lock than
// node. In a [State.Filtered] list there may be more of them.
func (s *State) Position(name, node string) int { return s.rankings.free().position(name, node) }

// Successor is the best placed candidate for a lock other than the node without,
// or the node that the lock is pinned to, if that is a candidate.
func (s *State) Successor(name, without string) (to Candidate, ok bool) {
	return s.Survivor(name, without, func(string) bool { return false })
}

// Survivor is [State.Successor], or the next best candidate where the better ones are
// of dead sessions.
func (s *State) Survivor(name, without string, dead func(session string) bool) (to Candidate, ok bool) {
	for c := range s.line(name, without) {
		if !dead(c.Session) {
			return c, true
		}
	}
	return Candidate{}, false
}

// InLine returns how many candidates for a lock come before the member with a session
// if the lock leaves node. It returns false if that member is not a candidate.
func (s *State) InLine(name, node, session string) (position int, ok bool) {
	for c := range s.line(name, node) {
		if c.Session == session {
			return position, true
		}
		position++
	}
	return 0, false
}

// line yields the candidates that may have a lock if it leaves the node without, the
// best placed first.
func (s *State) line(name, without string) iter.Seq[Candidate] {
	pin := s.Pin(name)
	return func(yield func(Candidate) bool) {
		for _, c := range s.rankings.successors(without)[name] {
			if (pin == "" || pin == c.Node) && !yield(c) {
				return
			}
		}
	}
}

// BestPlaced is the best placed candidate for a lock other than the node without,
// wherever the lock is pinned.
func (s *State) BestPlaced(name, without string) (to Candidate, ok bool) {
	if c := s.rankings.successors(without)[name]; len(c) > 0 {
		return c[0], true
	}
	return Candidate{}, false
}
