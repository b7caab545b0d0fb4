// Package health checks the services behind the addresses: by HTTP, by TCP, by a program or
// by asking the local Consul agent.
//
// [Check] runs one check until its context ends, in the goroutine of its caller, and
// reports a [State] whenever it has changed. It starts no goroutine that outlives a run.
package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/consul-vip/consul-vip/config"
)

// State is the fitness of a service.
type State struct {
	Fit bool

	// Known: the check has run as often as it takes to become fit. Until then it is not fit,
	// and that says nothing of the service.
	Known bool

	// Flapping: it has changed too often, and is not fit until it has been calm.
	Flapping bool

	// Reason is why it is not fit, in one line; empty if it is.
	Reason string
}

// Same reports whether two states differ in their reasons at most.
func (s State) Same(o State) bool {
	s.Reason, o.Reason = "", ""
	return s == o
}

// reasonPause is how often another reason is reported while nothing else changes: each
// report becomes a write to Consul, and a program may print the time.
const reasonPause = 10 * time.Second

// errTimeout means that a run took too long.
var errTimeout = errors.New("timed out")

// Check runs a check once per interval until ctx ends. It calls report at once, with a check
// that is not fit, and after every change. report must not block.
func Check(ctx context.Context, c config.Check, s Services, report func(State)) {
	run, t := tryOf(c, s), &tally{rise: c.Rise, fall: c.Fall}
	last, reported := State{Reason: "it has not run yet"}, time.Now()
	report(last)
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		next.Reset(c.Interval)
		err := runOnce(ctx, c, run)
		switch {
		case ctx.Err() != nil:
			return // it was broken off
		case errors.Is(err, errNoResult):
			continue
		}
		t.add(err == nil, time.Now())
		now := stateOf(t, err, last)
		if now == last || now.Same(last) && time.Since(reported) < reasonPause {
			continue
		}
		last, reported = now, time.Now()
		report(last)
	}
}

// runOnce runs a check with its timeout.
func runOnce(ctx context.Context, c config.Check, run try) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%w after %s", errTimeout, c.Timeout))
	defer cancel()
	err := run(ctx)
	var op *net.OpError
	switch {
	case err != nil && ctx.Err() != nil && !errors.Is(err, errNoResult):
		return context.Cause(ctx)
	case errors.As(err, &op):
		return op.Err // without the ports, which differ each time
	}
	return err
}

// stateOf is the state after a run. A check that is not fit keeps its reason while runs
// succeed.
func stateOf(t *tally, err error, last State) State {
	s := State{Fit: t.fit && !t.flapping, Known: t.known(), Flapping: t.flapping, Reason: last.Reason}
	switch {
	case s.Fit:
		s.Reason = ""
	case t.flapping:
		s.Reason = fmt.Sprintf("it has changed more than %d times within %s", mostChanges, calmTime)
	case err != nil:
		s.Reason = err.Error()
	}
	return s
}
