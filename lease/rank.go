package lease

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"
)

// What each rank lets pass before it contends, so that the best one there gets
// the lock: several times what a commit takes on a busy cluster. It costs time
// only where the better ones are members, but dead. At a fresh start, when
// everything is contended for at once, an even spread is worth more than speed.
const (
	rankDelay  = 100 * time.Millisecond
	freshDelay = 300 * time.Millisecond
)

// contender is a live member, as one that could have a certain lock.
type contender struct {
	node     string
	session  string
	priority int
	score    [sha256.Size]byte
}

// ranking orders the contenders of every lock, the best first.
type ranking map[string][]contender

// rankings are what can be asked of a view; each is worked out once, when it is
// asked for, and every node works out the same.
type rankings struct {
	free  func() ranking               // who should take a lock that is free
	ideal func() ranking               // who should have it, were all of them free
	heirs func(without string) ranking // who should get what one member gives away
}

func newRankings(v *view) rankings {
	var mu sync.Mutex
	heirs := map[string]ranking{}
	return rankings{
		free:  sync.OnceValue(func() ranking { return rank(v, v.locks, "") }),
		ideal: sync.OnceValue(func() ranking { return rank(v, nil, "") }),
		heirs: func(without string) ranking {
			mu.Lock()
			defer mu.Unlock()
			if heirs[without] == nil {
				heirs[without] = rank(v, v.locks, without)
			}
			return heirs[without]
		},
	}
}

// rank orders by priority; then those who have their share already come last;
// then by rendezvous hashing, so that few locks move when a member comes or
// goes. The share makes many locks spread evenly, which hashing alone does only
// roughly. What the members hold of locks counts towards it. Who is drained has
// no rank and no share, and what it holds counts as nobody's.
func rank(v *view, locks map[string]lockState, without string) ranking {
	r := ranking{}
	load := map[string]int{} // by session
	for node, m := range v.members {
		if node == without || v.drained[node] {
			continue
		}
		load[m.Session] = 0
		for name, priority := range m.VIPs {
			r[name] = append(r[name], contender{node, m.Session, priority, score(name, node)})
		}
	}
	share := (len(r) + len(load) - 1) / max(len(load), 1)
	for _, l := range locks {
		if _, member := load[l.session]; member {
			load[l.session]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r)) {
		slices.SortFunc(r[name], func(a, b contender) int {
			return cmp.Or(
				cmp.Compare(a.priority, b.priority),
				cmp.Compare(excess(load[a.session], share), excess(load[b.session], share)),
				bytes.Compare(b.score[:], a.score[:]))
		})
		if _, held := load[locks[name].session]; !held {
			load[r[name][0].session]++
		}
	}
	return r
}

// excess is how much a load is at or above its share.
func excess(load, share int) int { return max(load-share+1, 0) }

func score(name, node string) [sha256.Size]byte {
	return sha256.Sum256([]byte(name + "\x00" + node))
}

// place is node's place among the contenders of name, 0 for the best. Who is
// not among them yet does not know better than to try.
func (r ranking) place(name, node string) int {
	return max(slices.IndexFunc(r[name], func(c contender) bool { return c.node == node }), 0)
}

// successor is the best placed of the other members that contend for name, or
// the one it is pinned to, if that is there.
func (v *view) successor(name, node string) (contender, bool) {
	for _, c := range v.ranks.heirs(node)[name] {
		if pin := v.pins[name]; pin == "" || pin == c.node {
			return c, true
		}
	}
	return contender{}, false
}
