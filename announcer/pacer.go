package announcer

import (
	"container/heap"
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/consul-vip/consul-vip/internal/latest"
)

const (
	// frameRate is the number of frames per second for all addresses of an interface
	// together. The first frames of 1,000 addresses are sent within 100 ms, and the
	// broadcasts, which every host of the segment must process, take 7 Mbit/s at most.
	frameRate rate.Limit = 10_000

	// frameBurst is the number of frames that may be sent without a gap. It fits into
	// any receive queue and keeps up the rate if a timer is late.
	frameBurst = 32

	pacerTick = time.Millisecond
)

// A pacer sends frames one after the other, no faster than frameRate. Frames with the
// lowest ordinal are sent first, then those queued first. Ordinals count the frames of
// a sequence, so the first frame of every sequence is sent before the second of any.
//
// The pacer goroutine sends the frames that wait. If none waits, the caller of do sends
// its frame itself. A pacer is safe for concurrent use.
type pacer struct {
	queued latest.Wake // wakes the pacer goroutine after a turn was queued

	mu      mutex // guards all following fields; locked while a frame is sent
	limit   *rate.Limiter
	running bool
	closed  bool
	queue   turns
	seq     uint64
}

// A mutex is a lock as sync.Mutex. A goroutine that waits for it is durably blocked in
// a synctest bubble, where a simulated socket may hold up the sender of a frame.
type mutex chan struct{}

func newMutex() mutex { return make(mutex, 1) }

func (m mutex) Lock()   { m <- struct{}{} }
func (m mutex) Unlock() { <-m }

// A turn is a frame that waits to be sent.
type turn struct {
	ctx     context.Context
	ordinal int
	seq     uint64
	send    func() error

	index int           // in the queue, -1 after removal; guarded by the pacer's mu
	err   error         // guarded by the pacer's mu until done is closed
	done  chan struct{} // closed when the turn is over
}

func newPacer() *pacer {
	return &pacer{queued: latest.NewWake(), mu: newMutex(), limit: rate.NewLimiter(frameRate, frameBurst)}
}

// do waits for its turn, calls send and returns its error. If ctx ends or the pacer
// is closed before that, it does not call send and returns the cause of ctx or
// ErrClosed. It never calls send after it has returned.
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
		// No other frame waits, so no goroutine or timer is needed.
		defer p.mu.Unlock()
		return send()
	}
	t := &turn{ctx: ctx, ordinal: ordinal, seq: p.seq, send: send, done: make(chan struct{})}
	p.seq++
	heap.Push(&p.queue, t)
	p.mu.Unlock()

	p.queued.Set()
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return p.withdraw(t)
	}
}

// withdraw removes a turn from the queue unless it is over, and returns its error.
// Frames are sent under the lock, so none is sent after it has returned.
func (p *pacer) withdraw(t *turn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.index < 0 {
		return t.err
	}
	heap.Remove(&p.queue, t.index)
	return context.Cause(t.ctx)
}

// run sends queued frames until ctx ends, then closes the pacer. It is the pacer
// goroutine.
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
		case <-p.queued:
		case <-tick:
		}
	}
}

// next gives the first turn of the queue, if the rate allows, and reports whether it
// did. The lock is released between two frames.
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

// waiting reports whether a frame waits for its turn.
func (p *pacer) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) > 0
}

// close ends all waiting and all later turns with ErrClosed.
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

// turns is a heap.Interface, ordered by ordinal and then by seq.
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
