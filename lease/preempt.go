package lease

import (
	"context"
	"errors"
	"time"
)

var (
	errPreempted = errors.New("a better placed member is there")
	errPinned    = errors.New("it is pinned there")
)

// preemption is whether another member should have a held lock, and since when.
type preemption struct {
	node  string // this one
	lock  Lock
	to    contender
	why   error       // nil while there is none
	timer *time.Timer // runs while there is one
}

func newPreemption(node string, l Lock) *preemption {
	p := &preemption{node: node, lock: l, timer: time.NewTimer(0)}
	p.timer.Stop()
	return p
}

// consider starts and stops the wait of PreemptDelay, or of nothing where the
// lock is pinned to another member.
func (p *preemption) consider(v *view) {
	if pin := v.pins[p.lock.Name]; pin != "" {
		to, ok := v.successor(p.lock.Name, p.node)
		p.set(to, ok && pin != p.node, errPinned, 0)
		return
	}
	var to contender
	r := v.ranks.ideal()
	better := p.lock.PreemptDelay > 0 && r.place(p.lock.Name, p.node) > 0
	if better {
		to = r[p.lock.Name][0]
	}
	p.set(to, better, errPreempted, p.lock.PreemptDelay)
}

func (p *preemption) set(to contender, wanted bool, why error, delay time.Duration) {
	switch {
	case !wanted:
		p.why = nil
		p.timer.Stop()
	case p.why != why || p.to.session != to.session:
		p.why, p.to = why, to
		p.timer.Reset(delay)
	}
}

// preempt hands h over to whom it is due, and returns nil if that did not work.
// The end of ctx ends the try: a stop has a second of its own for it.
func (k *Keeper) preempt(ctx, run context.Context, h *Held, due *preemption) error {
	trying, stop := context.WithCancelCause(run)
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
	return k.handOver(trying, h, due.to, due.why)
}
