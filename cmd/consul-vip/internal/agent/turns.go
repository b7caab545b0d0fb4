package agent

import (
	"container/list"
	"context"
	"sync"
)

// refreshesPerBind is how many refreshes go before a bind that waits. To bind an
// address, the kernel lists all others, which takes as long as many refreshes. With
// thousands of addresses neither may wait for the other's end: refreshes keep
// addresses alive, and binds are what everybody waits for at a cold start.
const refreshesPerBind = 16

// turns lets one goroutine after the other write addresses to the kernel. Nothing
// waits for a turn to remove an address. It is safe for concurrent use.
type turns struct {
	binding chan struct{} // holds a value while an address is being bound; first in, first out

	mu        sync.Mutex // guards all following fields, and those of each turn
	busy      bool       // a turn has come and is not over
	refreshes list.List  // of *turn, first in, first out
	binds     list.List
	inARow    int // refreshes since the last bind
}

// turn is a place in the queue.
type turn struct {
	turns   *turns
	come    chan struct{} // closed when it is this turn
	queue   *list.List
	element *list.Element // nil once it is this turn, or it is over
	over    bool
}

func newTurns() *turns { return &turns{binding: make(chan struct{}, 1)} }

// startBinding waits until no other address is being bound. It returns false if ctx
// ends first. Call endBinding afterwards.
func (t *turns) startBinding(ctx context.Context) bool {
	select {
	case t.binding <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *turns) endBinding() { <-t.binding }

// refresh queues for a refresh, bind for a bind. The turn must be ended by done.
func (t *turns) refresh() *turn { return t.enqueue(&t.refreshes) }
func (t *turns) bind() *turn    { return t.enqueue(&t.binds) }

func (t *turns) enqueue(queue *list.List) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := &turn{turns: t, come: make(chan struct{}), queue: queue}
	n.element = queue.PushBack(n)
	t.next()
	return n
}

// next begins the next turn, if none is under way. The caller has locked mu.
func (t *turns) next() {
	queue := &t.refreshes
	if queue.Len() == 0 || (t.binds.Len() > 0 && t.inARow >= refreshesPerBind) {
		queue = &t.binds
	}
	if t.busy || queue.Len() == 0 {
		return
	}
	t.inARow++
	if queue == &t.binds {
		t.inARow = 0
	}
	t.busy = true
	n := queue.Remove(queue.Front()).(*turn)
	n.element = nil
	close(n.come)
}

// done ends the turn, or leaves the queue. It may be called more than once.
func (n *turn) done() {
	n.turns.mu.Lock()
	defer n.turns.mu.Unlock()
	switch {
	case n.over:
	case n.element != nil:
		n.queue.Remove(n.element)
	default:
		n.turns.busy = false
		n.turns.next()
	}
	n.over, n.element = true, nil
}
