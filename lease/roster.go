package lease

import (
	"sync"
	"time"
)

// Priorities range from 0, the best, to maxPriority.
const maxPriority = 1000

// roster is what this process is there for: the locks it holds or contends
// for, and how. It is safe for concurrent use.
type roster struct {
	mu      sync.Mutex
	locks   map[string]Lock
	away    map[string]time.Duration // by name, until when a lock is left to others
	offset  int                      // of all priorities
	closed  bool                     // this process is about to end
	changed chan struct{}            // closed at the next change
}

func newRoster() *roster {
	return &roster{locks: map[string]Lock{}, away: map[string]time.Duration{}, changed: make(chan struct{})}
}

// Prioritize adds delta to this process's priority for every lock, as long as
// it runs, and returns what that comes to now, between -1000 and 1000. The
// priorities that count stay between 0, the best, and 1000.
func (k *Keeper) Prioritize(delta int) (offset int) {
	offset = k.roster.shift(delta)
	k.log.Info("priorities changed", "offset", offset)
	return offset
}

// Update replaces what Hold was told of the lock of this name: its priority and
// its preemption from now on, its owner from the next record on. A lock that
// nobody holds or contends for here it ignores, and returns false. The lock itself
// is not touched.
func (k *Keeper) Update(lock Lock) bool { return k.roster.update(lock) }

// read returns this process's priority for each lock that it could be given,
// whether it is about to end, and a channel that closes when either changes.
func (r *roster) read() (priorities map[string]int, closed bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	priorities = map[string]int{}
	for name, l := range r.locks {
		if _, away := r.away[name]; !away {
			priorities[name] = clamp(l.Priority+r.offset, 0, maxPriority)
		}
	}
	return priorities, r.closed, r.changed
}

// get returns the lock as it is wanted now, and a channel that closes when
// anything changes.
func (r *roster) get(name string) (l Lock, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.locks[name], r.changed
}

func (r *roster) has(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.locks[name]
	return ok
}

func (r *roster) join(l Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.locks[l.Name] = l
	r.wake()
}

// update replaces what is known of a lock, if anything is.
func (r *roster) update(l Lock) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.locks[l.Name]
	if known {
		r.locks[l.Name] = l
		r.wake()
	}
	return known
}

func (r *roster) part(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.locks, name)
	r.wake()
}

// shift adds delta to the offset and returns it.
func (r *roster) shift(delta int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offset = clamp(r.offset+clamp(delta, -2*maxPriority, 2*maxPriority), -maxPriority, maxPriority)
	r.wake()
	return r.offset
}

// leave makes this process no contender for a lock until it comes back, which
// is due at that time.
func (r *roster) leave(name string, until time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away[name] = until
	r.wake()
}

// awayUntil is when this process is to come back to a lock, or 0 where it has
// not left it.
func (r *roster) awayUntil(name string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away[name]
}

func (r *roster) comeBack(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, away := r.away[name]; away {
		delete(r.away, name)
		r.wake()
	}
}

func (r *roster) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.wake()
}

func (r *roster) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func clamp(n, low, high int) int { return min(max(n, low), high) }
