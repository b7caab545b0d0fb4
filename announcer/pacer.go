package announcer

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// frameRate is how many frames a second all addresses of an interface send
	// together. It moves 1,000 addresses' first frames within 100 ms and is still
	// a mere 7 Mbit/s of shortest frames, which every host of the segment must
	// look at, for each is broadcast.
	frameRate rate.Limit = 10_000

	// frameBurst frames may leave without a gap: few enough for any receiver's
	// queue, enough to keep the rate with a timer that ticks late.
	frameBurst = 32

	pacerTick = time.Millisecond
)

// A pacer lets frames leave one after the other, no faster than frameRate. Who
// waits with the lowest ordinal goes first, then who came first: when ordinals
// count the frames of a burst, the first frame of every burst leaves before the
// second of any.
type pacer struct {
	wake chan struct{} // a turn was queued

	mu      sync.Mutex // held while a frame leaves
	limit   *rate.Limiter
	running bool
	closed  bool
	queue   turns
	seq     uint64
}

// A turn is a frame waiting to be sent.
type turn struct {
	ctx     context.Context
	ordinal int
	seq     uint64
	index   int // in the queue; -1 once taken out
	send    func() error
	err     error
	done    chan struct{} // closed once err is final
}

func newPacer() *pacer {
	return &pacer{wake: make(chan struct{}, 1), limit: rate.NewLimiter(frameRate, frameBurst)}
}

// do calls send when it is its turn and returns its error. If ctx ends or the
// pacer closes first, send is not called, and the error is ctx's cause or
// ErrClosed. Once do has returned, send is never called.
func (p *pacer) do(ctx context.Context, ordinal int, send func() error) error {
	p.mu.Lock()
	switch {
	case ctx.Err() != nil:
		p.mu.Unlock()
		return context.Cause(ctx)
	case p.closed:
		p.mu.Unlock()
		return ErrClosed
	case p.running && len(p.queue) == 0 && p.limit.Allow():
		// Nobody waits: send right here, with no goroutine or timer in between.
		defer p.mu.Unlock()
		return send()
	}
	t := &turn{ctx: ctx, ordinal: ordinal, seq: p.seq, send: send, done: make(chan struct{})}
	p.seq++
	heap.Push(&p.queue, t)
	p.mu.Unlock()

	select {
	case p.wake <- struct{}{}:
	default:
	}
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return p.withdraw(t)
	}
}

// withdraw takes a turn out of the queue, if it is still there. Frames leave
// under the lock, so none is leaving afterwards.
func (p *pacer) withdraw(t *turn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.index < 0 {
		return t.err
	}
	heap.Remove(&p.queue, t.index)
	return context.Cause(t.ctx)
}

// run gives turns until ctx ends, then closes the pacer.
func (p *pacer) run(ctx context.Context) {
	defer p.close()
	p.mu.Lock()
	p.running = true
	p.mu.Unlock()

	for {
		for p.next() {
		}
		var tick <-chan time.Time
		if p.waiting() {
			tick = time.After(pacerTick)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-tick:
		}
	}
}

// next gives the first in the queue its turn, if the rate allows, and reports
// whether it did. The lock is released between any two frames.
func (p *pacer) next() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 || !p.limit.Allow() {
		return false
	}
	t := heap.Pop(&p.queue).(*turn)
	if t.ctx.Err() != nil {
		t.err = context.Cause(t.ctx)
	} else {
		t.err = t.send()
	}
	close(t.done)
	return true
}

func (p *pacer) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) > 0
}

// close ends every waiting turn with ErrClosed, and every later one.
func (p *pacer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for len(p.queue) > 0 {
		t := heap.Pop(&p.queue).(*turn)
		t.err = ErrClosed
		close(t.done)
	}
}

// turns is a heap.Interface.
type turns []*turn

func (q turns) Len() int { return len(q) }

func (q turns) Less(i, j int) bool {
	if q[i].ordinal != q[j].ordinal {
		return q[i].ordinal < q[j].ordinal
	}
	return q[i].seq < q[j].seq
}

func (q turns) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *turns) Push(x any) {
	t := x.(*turn)
	t.index = len(*q)
	*q = append(*q, t)
}

func (q *turns) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.index = -1
	return t
}
