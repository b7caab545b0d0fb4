package simulation

import "net/netip"

// event is an event of the kernel. Exactly one field is set.
type event struct {
	removed, foreign netip.Addr
	link, lost       bool
	identity         bool // the host's own addresses, or its router, may be others
}

// eventQueue keeps the events for one program. The network's mutex guards it.
type eventQueue struct {
	queue []event
	wake  chan struct{}
}

func (q *eventQueue) add(e event) {
	q.queue = append(q.queue, e)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) take() []event {
	taken := q.queue
	q.queue = nil
	return taken
}

// lose loses the events that have not been taken, as a full queue does.
func (q *eventQueue) lose() {
	q.queue = nil
	q.add(event{lost: true})
}
