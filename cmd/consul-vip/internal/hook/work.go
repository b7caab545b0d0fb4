package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/consul-vip/consul-vip/config"
)

// A hook that is to succeed is run again after shortestPause, and after each further
// failure after twice the time, until longestPause.
const (
	shortestPause = time.Second
	longestPause  = 30 * time.Second
)

// maxReason is how long the reason in a program's environment may be, in bytes.
const maxReason = 1 << 10

// Why a program is killed, or not started.
var (
	errTimeout = errors.New("it took longer than its timeout")
	errEnd     = errors.New("the agent ends")

	errSuperseded = errors.New("the address is not held any more")
)

// insistence is a job of which hooks failed that are to succeed.
type insistence struct {
	*job
	names []string // of the hooks
	pause time.Duration
	due   time.Time
}

func insistOn(j *job, names []string, pause time.Duration) *insistence {
	pause = min(pause, longestPause)
	return &insistence{j, names, pause, time.Now().Add(pause)}
}

// work runs the hooks of an address, until nothing is left to do. After the end of ctx
// nothing is tried again. Programs are killed when the context programs ends.
func (r *Runner) work(ctx, programs context.Context, q *queue) {
	var again *insistence
	for {
		j := r.next(q, again != nil)
		switch {
		case j == nil && again == nil:
			return
		case j == nil:
			if r.pause(ctx, q, again) {
				again = r.insist(q, again)
			}
			if ctx.Err() != nil {
				again = nil
			}
		default:
			if j.ctx == nil {
				j.ctx = programs
			}
			if j.sort() == tenure {
				again = nil
			}
			if failed := r.run(q, j, r.concerned(j.Kind, j.Address)); len(failed) > 0 && j.Insist && ctx.Err() == nil {
				again = insistOn(j, failed, shortestPause)
			}
		}
	}
}

// pause waits until failed hooks are to be run again, and reports whether they are. It
// returns early for another job.
func (r *Runner) pause(ctx context.Context, q *queue, again *insistence) bool {
	t := time.NewTimer(time.Until(again.due))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-q.posted:
	case <-ctx.Done():
	}
	return false
}

// insist runs the hooks again that failed. It returns those that have failed once more.
func (r *Runner) insist(q *queue, again *insistence) *insistence {
	hooks := slices.DeleteFunc(r.concerned(again.Kind, again.Address), func(h config.Hook) bool { return !slices.Contains(again.names, h.Name) })
	failed := r.run(q, again.job, hooks)
	if len(failed) == 0 {
		return nil
	}
	return insistOn(again.job, failed, 2*again.pause)
}

// run runs hooks for a job, reports the result and returns the names of those that failed.
func (r *Runner) run(q *queue, j *job, hooks []config.Hook) (failed []string) {
	ctx, cancel := context.WithCancelCause(j.ctx)
	defer cancel(nil)
	if j.Insist {
		r.insisting(q, cancel)
		defer r.insisting(q, nil)
	}
	var reason error
	for _, h := range hooks {
		if err := r.runOne(ctx, j, h); err != nil {
			failed = append(failed, h.Name)
			reason = errors.Join(reason, fmt.Errorf("hook %s: %w", h.Name, err))
		}
	}
	if j.Report != nil {
		j.Report(reason)
	}
	return failed
}

// runOne runs one hook and logs how it ended. It waits for its turn first, which counts
// for nothing.
func (r *Runner) runOne(ctx context.Context, j *job, h config.Hook) error {
	log := r.log.With("vip", j.Address.String(), "hook", h.Name, "event", string(j.Kind))
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		log.Warn("a hook was not run", "reason", context.Cause(ctx))
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.Timeout, errTimeout)
	defer cancel()
	began := time.Now()
	result := r.program(ctx, h.Command, environment(os.Environ(), j))
	took := time.Since(began).Round(time.Millisecond).String()
	if result.Err != nil {
		log.Warn("a hook failed", "error", result.Err, "output", result.Output, "took", took, "failures", r.hasFailed(h.Name))
		return result.Reason()
	}
	log.Debug("a hook has run", "output", result.Output, "took", took)
	return nil
}

// variables is what the names of a hook's own variables begin with. All others that begin
// like settings of consul-vip are left out: a hook may call it.
const (
	settings  = "CONSUL_VIP_"
	variables = settings + "HOOK_"
)

// environment adds what hooks are told to the environment of this process.
func environment(own []string, j *job) []string {
	env := slices.DeleteFunc(slices.Clone(own), func(s string) bool { return strings.HasPrefix(s, settings) })
	family := "ipv4"
	if j.Address.Is6() {
		family = "ipv6"
	}
	for _, v := range []struct{ name, value string }{
		{"EVENT", string(j.Kind)},
		{"ADDRESS", j.Address.String()},
		{"FAMILY", family},
		{"INTERFACE", j.Interface},
		{"NODE", j.Node},
		{"REASON", j.Reason},
		{"PREVIOUS_NODE", j.PreviousNode},
		{"SKIPPED", strconv.Itoa(j.skipped)},
	} {
		env = append(env, variables+v.name+"="+printable(v.value))
	}
	return env
}

// printable makes a value one line of text: it may come from Consul, where anybody may
// have written it, and scripts print it.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return s
}
