package agent

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// transition is a change of a VIP's state.
type transition struct {
	at       time.Time
	vip      string
	from, to state
	reason   string
}

// longestHistory is how many transitions of all VIPs are kept.
const longestHistory = 50

// history keeps the last transitions of all VIPs of the process. The zero history is empty
// and ready to use. It is safe for concurrent use.
type history struct {
	mu   sync.Mutex // guards the following field
	last []transition
}

func (h *history) add(t transition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.last) == longestHistory {
		h.last = slices.Delete(h.last, 0, 1)
	}
	h.last = append(h.last, t)
}

// list returns the transitions, the oldest first.
func (h *history) list() []transition {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.last)
}

// present is what others may read of a VIP at any moment. The VIP's goroutine writes it, any
// goroutine may read it.
type present struct {
	history *history // of all VIPs; nil: nobody wants to know; set before the VIP runs

	last   atomic.Pointer[transition]
	tenure atomic.Pointer[tenure] // nil: the lock is not held
	active atomic.Pointer[active] // nil: the address has not been bound in this tenure
}

// enter notes a transition.
func (p *present) enter(t transition) {
	p.last.Store(&t)
	if p.history != nil {
		p.history.add(t)
	}
}

// serve notes the tenure that begins. The caller calls end when it has ended.
func (p *present) serve(t tenure) (end func()) {
	p.tenure.Store(&t)
	return func() {
		p.active.Store(nil)
		p.tenure.Store(nil)
	}
}
