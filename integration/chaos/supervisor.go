package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
	"github.com/consul-vip/consul-vip/internal/latest"
)

// restartDelay is how long the supervisor waits after a process has ended by itself.
const restartDelay = 500 * time.Millisecond

// supervisor keeps an instance of consul-vip running on one host, as a scheduler does.
// Its methods are safe for concurrent use.
type supervisor struct {
	host     *lab.Host
	command  lab.Command
	journal  *journal
	violated reportViolation
	foreign  *foreign

	running latest.Latest[instance] // set only while mu is locked

	mu        sync.Mutex     // guards all following fields
	done      actions        // to the running process
	all       []*lab.Process // that there ever were
	frozen    int            // freezes under way
	unawareAt time.Time      // when a process was last found to be frozen, or to have ended
}

// instance is what runs on the host.
type instance struct {
	process *lab.Process // nil between two processes
	halted  bool         // no process starts
}

// actions are what chaos did to a process.
type actions struct {
	signalled time.Time // when it was told to stop
	killed    bool
	thawed    time.Time
	restart   time.Duration // the time between its end and the next start
}

func newSupervisor(h *lab.Host, c lab.Command, j *journal, violated reportViolation, f *foreign) *supervisor {
	return &supervisor{host: h, command: c, journal: j, violated: violated, foreign: f}
}

// name is the supervisor's name in the journal.
func (s *supervisor) name() string { return s.host.Name + " process" }

// update changes what runs, and other fields together with it.
func (s *supervisor) update(change func(*instance)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := s.running.Get()
	change(&i)
	s.running.Set(i)
}

// await waits until cond holds. The error is ctx's cause.
func (s *supervisor) await(ctx context.Context, cond func(instance) bool) error {
	for {
		i, changed := s.running.Get()
		if cond(i) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run starts the instance again and again until ctx ends. It does not end the last
// process.
func (s *supervisor) run(ctx context.Context) error {
	for {
		if s.await(ctx, func(i instance) bool { return !i.halted }) != nil {
			return nil
		}
		p, err := s.host.Start(s.command)
		if err != nil {
			return err
		}
		s.journal.note(s.name(), "%d started", p.PID())
		s.update(func(i *instance) { i.process, s.done, s.all = p, actions{}, append(s.all, p) })
		select {
		case <-p.Ended():
		case <-ctx.Done():
			return nil
		}
		if lab.Sleep(ctx, s.ended(p)) != nil {
			return nil
		}
	}
}

// ended checks how the process ended and returns how long to wait before the next
// start.
func (s *supervisor) ended(p *lab.Process) time.Duration {
	var done actions
	s.update(func(i *instance) { done, i.process, s.unawareAt = s.done, nil, time.Now() })
	code, err := p.Wait(context.Background())
	if err != nil {
		s.violated("exit", "%s: %v", s.host.Name, err)
	}
	reason := loggedReason(p.Entries())
	s.journal.note(s.name(), "%d exited with %d: %s", p.PID(), code, reason)
	problems := checkExit(code, done, time.Now(), p.String())
	if code == exitConflict {
		problems = append(problems, s.foreign.exited(p.String())...)
	}
	for _, problem := range problems {
		s.violated("exit", "process %d on %s exited with %d: %s: %s", p.PID(), s.host.Name, code, problem, reason)
	}
	if done.killed || !done.signalled.IsZero() {
		return done.restart
	}
	return restartDelay
}

// current returns the running process, or nil.
func (s *supervisor) current() *lab.Process {
	i, _ := s.running.Get()
	return i.process
}

// processes returns all processes that there ever were.
func (s *supervisor) processes() []*lab.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// signal records an action and sends its signal to the running process. It returns the
// process, or nil if none runs.
func (s *supervisor) signal(sig os.Signal, record func(*actions)) *lab.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := s.running.Get()
	if i.process == nil || i.halted {
		return nil
	}
	record(&s.done)
	_ = i.process.Signal(sig) // it may have ended just now
	return i.process
}

// handlesSignals reports whether a process has installed its signal handlers:
// consul-vip does that before it logs its first line.
func handlesSignals(p *lab.Process) bool { return len(p.Entries()) > 0 }

// awaitHandlers waits until the running process, if there is one, handles signals.
// Without a handler, the kernel ends it.
func (s *supervisor) awaitHandlers(ctx context.Context) error {
	return lab.Await(ctx, func() error {
		if p := s.current(); p != nil && p.Running() && !handlesSignals(p) {
			return fmt.Errorf("process %d on %s does not handle signals yet", p.PID(), s.host.Name)
		}
		return nil
	})
}

// stop stops or kills the process, and waits until another one runs. That one starts
// after a time.
func (s *supervisor) stop(ctx context.Context, sig os.Signal, restart time.Duration) error {
	if sig != syscall.SIGKILL {
		if err := s.awaitHandlers(ctx); err != nil {
			return err
		}
	}
	old := s.signal(sig, func(a *actions) {
		a.restart = restart
		if sig == syscall.SIGKILL {
			a.killed = true
		} else if a.signalled.IsZero() {
			a.signalled = time.Now()
		}
	})
	if old == nil {
		return errNoTarget
	}
	return s.await(ctx, func(i instance) bool { return i.halted || i.process != nil && i.process != old })
}

// freeze stops the process without ending it, for a time.
func (s *supervisor) freeze(ctx context.Context, d time.Duration) error {
	p := s.signal(syscall.SIGSTOP, func(*actions) { s.frozen++ })
	if p == nil {
		return errNoTarget
	}
	_ = lab.Sleep(ctx, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen--
	s.unawareAt = time.Now()
	if i, _ := s.running.Get(); i.process == p {
		s.done.thawed = s.unawareAt
	}
	_ = p.Signal(syscall.SIGCONT) // it may have been killed in the meantime
	return nil
}

// unaware reports whether at any time since then the instance did not react to what it
// might have heard: it was frozen, or had ended.
func (s *supervisor) unaware(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := s.running.Get()
	return i.process == nil || s.frozen > 0 || s.unawareAt.After(since)
}

// notify sends the process a signal that does not end it if the process handles it.
func (s *supervisor) notify(sig syscall.Signal) error {
	if p := s.current(); p == nil || !handlesSignals(p) {
		return errNoTarget
	}
	if s.signal(sig, func(*actions) {}) == nil {
		return errNoTarget
	}
	return nil
}

// halt kills the process. No other one starts until resume.
func (s *supervisor) halt() error {
	var p *lab.Process
	s.update(func(i *instance) {
		i.halted, p = true, i.process
		s.done.killed, s.done.restart = true, 0
	})
	if p != nil {
		return p.Kill()
	}
	return nil
}

// resume undoes halt.
func (s *supervisor) resume() error {
	s.update(func(i *instance) { i.halted = false })
	return nil
}

// retire stops the process for good and returns when it has ended.
func (s *supervisor) retire(ctx context.Context) error {
	if err := s.awaitHandlers(ctx); err != nil {
		return err
	}
	p := s.signal(syscall.SIGTERM, func(a *actions) { a.signalled, a.restart = time.Now(), 0 })
	s.update(func(i *instance) { i.halted = true })
	if p == nil {
		return nil
	}
	return s.await(ctx, func(i instance) bool { return i.process == nil })
}
