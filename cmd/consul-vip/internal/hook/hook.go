// Package hook runs the programs that operators have configured for events of their
// addresses.
//
// # Order
//
// The hooks of one address run one after the other, in the order of the events, and for
// one event in the order of the configuration. Those of several addresses run at the same
// time, [atOnce] programs at most.
//
// While a hook of an address runs, its later events wait in a queue that cannot grow: of
// events of the same kind only the latest is kept, with the number of those that it has
// replaced. There are three kinds: what becomes of the address here, that it is about to
// leave, and whether this host is fit for it.
//
// # Goroutines
//
// [Runner.Run] has one goroutine for each address that has something to run, and joins
// them. [Runner.Post] and [Runner.Set] never block.
package hook

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/command"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
)

// atOnce is how many programs run at the same time: a host may get a thousand addresses
// in one second.
const atOnce = 16

// Event is something that has happened to an address, or is about to.
type Event struct {
	Kind    config.HookEvent
	Address netip.Addr
	// Interface has the address; empty: none.
	Interface string
	// Node is this instance's name; empty: not known yet.
	Node string
	// Reason tells people why.
	Reason string
	// PreviousNode had the address before this one; empty: none, or unknown.
	PreviousNode string

	// Insist: a hook that fails is run again, after longer and longer times, until it
	// succeeds or another event of the same sort comes. Then one that still runs is killed:
	// it must not take an address from the next owner.
	Insist bool
	// Report, if not nil, is called with the result after each run of all hooks of the
	// event: nil, or why one of them failed.
	Report func(error)
}

// sort is one of the three kinds of events of which only the latest is kept.
type sort int

const (
	tenure sort = iota
	leaving
	fitness
)

func (e Event) sort() sort {
	switch e.Kind {
	case config.HookPreRelease:
		return leaving
	case config.HookFit, config.HookUnfit:
		return fitness
	}
	return tenure
}

// Program runs a program: [command.Run].
type Program func(ctx context.Context, args, env []string) command.Result

// Runner runs hooks. Create it with New. Its methods are safe for concurrent use.
type Runner struct {
	log     hclog.Logger
	program Program
	turns   chan struct{} // has one element for each program that runs
	posted  latest.Wake

	mu     sync.Mutex // guards all following fields
	hooks  []config.Hook
	queues map[netip.Addr]*queue
	failed map[string]int // how often each hook has failed
}

// New returns a Runner without hooks, which does nothing before Run.
func New(log hclog.Logger, program Program) *Runner {
	return &Runner{
		log: log, program: program, turns: make(chan struct{}, atOnce), posted: latest.NewWake(),
		queues: map[netip.Addr]*queue{}, failed: map[string]int{},
	}
}

// Set replaces the hooks. It counts for programs that have not been started.
func (r *Runner) Set(hooks []config.Hook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks = hooks
}

// concerned returns the hooks for an event.
func (r *Runner) concerned(kind config.HookEvent, addr netip.Addr) []config.Hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.hooks), func(h config.Hook) bool { return !h.Concerns(kind, addr) })
}

// Timeout is how long all hooks for an event may take together.
func (r *Runner) Timeout(kind config.HookEvent, addr netip.Addr) (all time.Duration) {
	for _, h := range r.concerned(kind, addr) {
		all += h.Timeout
	}
	return all
}

// Post runs the hooks for an event as soon as those of the address's events before it have
// ended.
func (r *Runner) Post(e Event) { r.post(&job{Event: e}) }

// Await runs the hooks for an event and returns when they have ended, or with ctx. Then
// they are killed, or not started.
func (r *Runner) Await(ctx context.Context, e Event) {
	ended := make(chan struct{})
	report := e.Report
	e.Report = func(err error) {
		if report != nil {
			report(err)
		}
		close(ended)
	}
	r.post(&job{Event: e, ctx: ctx})
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

func (r *Runner) post(j *job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.queues[j.Address]
	if q == nil && len(r.hooks) == 0 {
		return
	}
	if q == nil {
		q = &queue{addr: j.Address, posted: latest.NewWake()}
		r.queues[j.Address] = q
	}
	q.add(j)
	if q.superseded != nil && j.sort() == tenure {
		q.superseded(errSuperseded)
	}
	q.posted.Set()
	r.posted.Set()
}

// Run runs hooks until ctx ends and all that was posted before that has been done, or has
// failed once. For that it takes twice the longest timeout of a hook at most. It returns nil.
func (r *Runner) Run(ctx context.Context) error {
	// Programs outlive ctx.
	programs, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	var workers sync.WaitGroup
	for running := true; running; {
		select {
		case <-r.posted:
		case <-ctx.Done():
			running = false
		}
		for _, q := range r.waiting() {
			workers.Go(func() { r.work(ctx, programs, q) })
		}
	}
	end := time.AfterFunc(2*r.longest(), func() { kill(errEnd) })
	defer end.Stop()
	workers.Wait()
	return nil
}

// longest is the longest timeout of a hook.
func (r *Runner) longest() (longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hooks {
		longest = max(longest, h.Timeout)
	}
	return longest
}

// waiting returns the queues that have jobs and no worker, and gives each to one.
func (r *Runner) waiting() (queues []*queue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.queues {
		if !q.working && len(q.jobs) > 0 {
			q.working = true
			queues = append(queues, q)
		}
	}
	return queues
}

// insisting notes how to kill what a queue insists on; nil: nothing.
func (r *Runner) insisting(q *queue, kill context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q.superseded = kill
	if kill != nil && slices.ContainsFunc(q.jobs, func(j *job) bool { return j.sort() == tenure }) {
		kill(errSuperseded)
	}
}

// next takes the next job of a queue. Without one the worker has ended, unless it stays.
func (r *Runner) next(q *queue, stay bool) *job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(q.jobs) == 0 {
		if !stay {
			delete(r.queues, q.addr)
		}
		return nil
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	return j
}

// hasFailed counts the failures of a hook.
func (r *Runner) hasFailed(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[name]++
	return r.failed[name]
}
