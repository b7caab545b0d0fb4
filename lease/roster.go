package lease

import (
	"maps"
	"sync"
)

// roster is what this process is there for: the locks it holds or contends
// for, with its priority for each. It is safe for concurrent use.
type roster struct {
	mu      sync.Mutex
	locks   map[string]int
	closed  bool          // this process is about to end
	changed chan struct{} // closed at the next change
}

func newRoster() *roster {
	return &roster{locks: map[string]int{}, changed: make(chan struct{})}
}

// read returns a copy, whether this process is about to end, and a channel
// that closes when either changes.
func (r *roster) read() (locks map[string]int, closed bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.locks), r.closed, r.changed
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
	r.locks[l.Name] = l.Priority
	r.wake()
}

func (r *roster) part(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.locks, name)
	r.wake()
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
