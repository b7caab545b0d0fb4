package lease

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Why another member, or nobody, should have a held lock.
var (
	errPreempted = errors.New("a better placed member is there")
	errPinned    = errors.New("it is pinned there")
	errDrained   = errors.New("this node is drained")
	errRequested = errors.New("its release was requested")
	errNobody    = errors.New("it is pinned to nobody")
)

// transfer is where a held lock should go.
type transfer struct {
	to      contender // the zero value: to nobody
	why     error     // nil: it stays
	delay   time.Duration
	request uint64 // the index of the request to claim first; 0: there is none
}

func (t transfer) equal(o transfer) bool {
	return t.why == o.why && t.to.session == o.to.session && t.request == o.request
}

// transfer says where the lock should go from node, which holds it. What the
// operator wants comes before what the ranking says.
func (v *view) transfer(lock Lock, node string) transfer {
	to, other := v.successor(lock.Name, node)
	pin, pinned := v.pins[lock.Name]
	request, requested := v.requests[lock.Name]
	switch {
	case requested && request.node == node:
		return transfer{to: to, why: errRequested, request: request.index}
	case pinned && pin != node && other:
		return transfer{to: to, why: errPinned}
	case v.drained[node] && other:
		return transfer{to: to, why: errDrained}
	case pinned || v.drained[node] || lock.PreemptDelay == 0:
		return transfer{}
	}
	if r := v.ranks.ideal(); r.place(lock.Name, node) > 0 {
		return transfer{to: r[lock.Name][0], why: errPreempted, delay: lock.PreemptDelay}
	}
	return transfer{}
}

// preemption is the wait until a held lock is transferred. It belongs to one
// goroutine.
type preemption struct {
	transfer
	since time.Time
	timer *time.Timer // runs while there is a transfer
}

func newPreemption() *preemption {
	p := &preemption{timer: time.NewTimer(0)}
	p.timer.Stop()
	return p
}

// consider starts and stops the wait.
func (p *preemption) consider(t transfer) {
	switch {
	case t.why == nil:
		p.timer.Stop()
	case !t.equal(p.transfer):
		p.since = time.Now()
		p.timer.Reset(t.delay)
	case t.delay != p.delay:
		p.timer.Reset(t.delay - time.Since(p.since))
	}
	p.transfer = t
}

// carryOut transfers h as t says and returns with what the hold ends then, or
// nil if that did not work. The end of ctx ends the try: a stop has a second of
// its own to hand h over.
func (k *Keeper) carryOut(ctx, run context.Context, h *Held, t transfer) error {
	trying, stop := context.WithCancelCause(run)
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
	if t.request != 0 && !k.claim(trying, h.name, t.request) {
		return nil
	}
	if t.to.session != "" {
		ended := k.handOver(trying, h, t.to, t.why)
		if ended != nil || t.request == 0 || ctx.Err() != nil {
			return ended
		}
	}
	return fmt.Errorf("%w: %w", ErrReleased, t.why)
}
