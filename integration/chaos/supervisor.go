package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// restartDelay is how long the supervisor waits after an end that nobody asked
// for.
const restartDelay = 500 * time.Millisecond

// stopLimit is how long an instance may take to end: the 4 s it promises, and
// what a busy machine may add.
const stopLimit = 7 * time.Second

// Documented exit codes of consul-vip.
const (
	exitOK       = 0
	exitFailure  = 1
	exitLost     = 4
	exitConflict = 5
	exitKilled   = -1 // no code of its own
)

// supervisor keeps an instance of consul-vip running on one host, as a
// scheduler does. Its methods are safe for concurrent use.
type supervisor struct {
	host    *lab.Host
	command lab.Command
	journal *journal
	blame   func(invariant, format string, args ...any)

	mu      sync.Mutex
	proc    *lab.Process // nil between two
	done    deed         // what was done to proc
	halted  bool
	all     []*lab.Process // that there ever were
	changed chan struct{}  // closed at the next change
}

// deed is what was done to a process.
type deed struct {
	signalled time.Time // when it was told to stop
	killed    bool
	frozen    bool
	thawed    time.Time
	restart   time.Duration
}

func newSupervisor(h *lab.Host, c lab.Command, j *journal, blame func(string, string, ...any)) *supervisor {
	return &supervisor{host: h, command: c, journal: j, blame: blame, changed: make(chan struct{})}
}

func (s *supervisor) source() string { return s.host.Name + " process" }

// update changes the supervisor's state and tells everybody.
func (s *supervisor) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until cond holds.
func (s *supervisor) await(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run starts the instance again and again until ctx ends, which is not the
// end of the last one.
func (s *supervisor) run(ctx context.Context) error {
	for {
		if s.await(ctx, func() bool { return !s.halted }) != nil {
			return nil
		}
		p, err := s.host.Start(s.command)
		if err != nil {
			return err
		}
		s.journal.note(s.source(), "%d started", p.PID())
		s.update(func() { s.proc, s.done, s.all = p, deed{}, append(s.all, p) })
		select {
		case <-p.Ended():
		case <-ctx.Done():
			return nil
		}
		pause := s.ended(p)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// ended judges the end of the process and returns how long to wait before the
// next.
func (s *supervisor) ended(p *lab.Process) time.Duration {
	var d deed
	s.update(func() { d, s.proc = s.done, nil })
	code, err := p.Wait(context.Background())
	if err != nil {
		s.blame("exit", "%s: %v", s.host.Name, err)
	}
	reason := lastWords(p.Entries())
	s.journal.note(s.source(), "%d ended with %d: %s", p.PID(), code, reason)
	for _, problem := range judgeExit(code, d, time.Now(), p.String()) {
		s.blame("exit", "process %d on %s exited with %d: %s: %s", p.PID(), s.host.Name, code, problem, reason)
	}
	if d.killed || !d.signalled.IsZero() {
		return d.restart
	}
	return restartDelay
}

// lastWords is why a process says that it ended.
func lastWords(entries []lab.Entry) string {
	for i := len(entries) - 1; i >= 0; i-- {
		if r := entries[i].Get("reason"); r != "" {
			return entries[i].Message() + ": " + r
		}
	}
	return "no reason given"
}

// judgeExit returns what is wrong with a process's end at this time, after
// these deeds, with this output.
func judgeExit(code int, d deed, at time.Time, output string) []string {
	var problems []string
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, sign := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(output, sign) {
			wrong("its output has %q", sign)
		}
	}
	asked := !d.signalled.IsZero()
	switch code {
	case exitOK:
		if !asked {
			wrong("nobody told it to stop")
		}
	case exitLost:
	case exitConflict:
		if !strings.Contains(output, stranger.String()) {
			wrong("it met an address conflict, but with no stranger")
		}
	case exitKilled:
		if !d.killed {
			wrong("a signal ended it that nobody sent")
		}
	default:
		wrong("no end that is foreseen")
	}
	if asked && !d.killed {
		since := d.signalled
		if d.thawed.After(since) {
			since = d.thawed
		}
		if took := at.Sub(since); took > stopLimit {
			wrong("it took %v to stop", took.Round(time.Millisecond))
		}
	}
	return problems
}

// current returns the running process, or nil.
func (s *supervisor) current() *lab.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// processes returns all that there ever were.
func (s *supervisor) processes() []*lab.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// signal sends a signal to the running process, after having taken down what
// that means for it. It returns the process, nil if there is none.
func (s *supervisor) signal(sig os.Signal, deed func(*deed)) *lab.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.halted {
		return nil
	}
	deed(&s.done)
	_ = s.proc.Signal(sig) // it may have ended just now
	return s.proc
}

// stop tells the process to stop, or kills it, and waits until another runs,
// which is started after restart.
func (s *supervisor) stop(ctx context.Context, sig os.Signal, restart time.Duration) error {
	old := s.signal(sig, func(d *deed) {
		d.restart = restart
		if sig == syscall.SIGKILL {
			d.killed = true
		} else if d.signalled.IsZero() {
			d.signalled = time.Now()
		}
	})
	if old == nil {
		return errVoid
	}
	return s.await(ctx, func() bool { return s.halted || s.proc != nil && s.proc != old })
}

// freeze stops the process in its tracks for a time.
func (s *supervisor) freeze(ctx context.Context, d time.Duration) error {
	p := s.signal(syscall.SIGSTOP, func(d *deed) { d.frozen = true })
	if p == nil {
		return errVoid
	}
	sleep(ctx, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == p {
		s.done.frozen, s.done.thawed = false, time.Now()
	}
	_ = p.Signal(syscall.SIGCONT) // it may have been killed meanwhile
	return nil
}

// tell sends the process a signal that it does not end by, once it has begun to
// listen for it.
func (s *supervisor) tell(sig syscall.Signal) error {
	if p := s.current(); p == nil || !strings.Contains(p.String(), "consul-vip starts") {
		return errVoid
	}
	if s.signal(sig, func(*deed) {}) == nil {
		return errVoid
	}
	return nil
}

// halt kills the process and starts no other until resume.
func (s *supervisor) halt() error {
	var p *lab.Process
	s.update(func() {
		s.halted, p = true, s.proc
		s.done.killed, s.done.restart = true, 0
	})
	if p != nil {
		return p.Kill()
	}
	return nil
}

// resume undoes halt.
func (s *supervisor) resume() error {
	s.update(func() { s.halted = false })
	return nil
}

// retire stops the process for good and returns when it has ended.
func (s *supervisor) retire(ctx context.Context) error {
	p := s.signal(syscall.SIGTERM, func(d *deed) { d.signalled, d.restart = time.Now(), 0 })
	s.update(func() { s.halted = true })
	if p == nil {
		return nil
	}
	return s.await(ctx, func() bool { return s.proc == nil })
}

// sleep returns false if ctx ended before the time had passed.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
