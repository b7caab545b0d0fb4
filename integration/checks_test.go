package integration

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// The tests assert order, owners and exit codes. A time bound only separates a
// program that does its work from one that does not. It leaves room for a machine
// on which every step takes a hundred times longer, and is extended by the time for
// which the machine stalls. Figures are logged.
const (
	// soon bounds everything that waits for no timeout of Consul or of the kernel.
	soon = 30 * time.Second
	// slack is added to a time that the program promises.
	slack = 5 * time.Second
	// calm is how long a test waits to see that nothing happens.
	calm = 2 * time.Second
)

// checks are the assertions of one test. At the end of a failed test, they repeat
// every failure in one line. The logs of all processes come after it.
//
//	FAILED TestCrash/killed (crash_test.go:31): expected h1 without 10.77.16.4 within 8s, saw it on eth0
type checks struct {
	*require.Assertions
	t       *recorder
	machine *machine // nil: its stalls do not matter
	logs    []func() string
}

func newChecks(t *testing.T) *checks {
	c := &checks{t: &recorder{T: t}}
	c.Assertions = require.New(c.t)
	t.Cleanup(func() { c.report(t) }) // the first cleanup registered is the last to run
	return c
}

// report says why the test failed, if it did.
func (c *checks) report(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, failure := range c.t.failures {
		t.Log("FAILED", failure)
	}
	for _, log := range c.logs {
		t.Log(log())
	}
}

// logOf adds the output of a process to the report.
func (c *checks) logOf(name string, p *lab.Process) {
	c.logs = append(c.logs, func() string {
		return fmt.Sprintf("log of %s on %s (process %d):\n%s", name, p.Host.Name, p.PID(), p)
	})
}

// condition is something that a test expects.
type condition struct {
	expected string       // completes the sentence "expected …"
	seen     func() error // nil if the condition holds, otherwise what there is instead
}

// await waits until a condition holds and fails the test if it does not hold soon.
func (c *checks) await(cond condition) {
	c.t.Helper()
	c.awaitWithin(soon, cond)
}

// awaitWithin is await with a bound of its own. It also works in a cleanup.
func (c *checks) awaitWithin(d time.Duration, cond condition) {
	c.t.Helper()
	if !c.comes(d, cond) {
		c.t.FailNow()
	}
}

// comes is like awaitWithin, but the test goes on after a failure. The time for which
// the machine stalls does not count.
func (c *checks) comes(d time.Duration, cond condition) bool {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began, stalled := time.Now(), c.machine.stalled()
	var seen error
	err := lab.Await(ctx, func() error {
		if seen = cond.seen(); seen != nil && time.Since(began) > d+c.machine.stalled()-stalled {
			cancel()
		}
		return seen
	})
	if err == nil {
		return true
	}
	return assert.Fail(c.t, fmt.Sprintf("expected %s within %v, saw %v", cond.expected, d, seen))
}

// holds requires that a condition holds now.
func (c *checks) holds(cond condition) {
	c.t.Helper()
	if seen := cond.seen(); seen != nil {
		c.FailNow(fmt.Sprintf("expected %s, saw %v", cond.expected, seen))
	}
}

// pass waits, in a test of something that must not happen in the meantime.
func (c *checks) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}

// exits requires that a process exits with this code within a time.
func (c *checks) exits(p *lab.Process, code int, d time.Duration) {
	c.t.Helper()
	c.awaitWithin(d, ended(p))
	got, err := p.Wait(context.Background())
	c.NoError(err)
	c.Equal(code, got, "exit code of %s", p.Host.Name)
}

// running requires that processes have not ended.
func (c *checks) running(processes ...*lab.Process) {
	c.t.Helper()
	for _, p := range processes {
		c.True(p.Running(), "the process on %s must still run", p.Host.Name)
	}
}

// recorder is a test that remembers its failures. While a subtest runs, T is the
// subtest.
type recorder struct {
	*testing.T
	failures []string
}

// Errorf fails the test. Testify calls it.
func (r *recorder) Errorf(format string, args ...any) {
	r.Helper()
	message := fmt.Sprintf(format, args...)
	r.failures = append(r.failures, r.Name()+summary(message))
	r.T.Errorf("%s", message)
}

var (
	// sections finds the parts of a message by testify, each with a title.
	sections = regexp.MustCompile(`(?m)^\t([A-Z][A-Za-z ]+):[ \t]+`)
	// unequal matches a message about two values.
	unequal = regexp.MustCompile(`^Not equal: expected: (.*) actual : (.*)$`)
)

// summary makes one line of a message by testify.
func summary(message string) string {
	parts, place := make(map[string]string), ""
	starts := sections.FindAllStringSubmatchIndex(message, -1)
	for i, at := range starts {
		end := len(message)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		parts[message[at[2]:at[3]]] = message[at[1]:end]
	}
	for _, line := range strings.Fields(parts["Error Trace"]) { // the innermost call first
		if strings.Contains(line, "_test.go:") {
			place = fmt.Sprintf(" (%s)", filepath.Base(line))
		}
	}
	what, _, _ := strings.Cut(parts["Error"], "Diff:")
	what = strings.Join(strings.Fields(what), " ")
	what = unequal.ReplaceAllString(what, "expected $1, saw $2")
	what = strings.Replace(what, "Received unexpected error:", "expected no error, saw", 1)
	if note := strings.Join(strings.Fields(parts["Messages"]), " "); note != "" {
		what = note + ": " + what
	}
	return place + ": " + what
}

// note keeps the failure of a fake test.
type note struct{ text string }

func (n *note) Errorf(format string, args ...any) { n.text = fmt.Sprintf(format, args...) }

// TestFailureInOneLine pins how the failures of the other tests read.
func TestFailureInOneLine(t *testing.T) {
	for want, fail := range map[string]func(n *note){
		`exit code of h1: expected 4, saw 0`: func(n *note) { assert.Equal(n, 4, 0, "exit code of %s", "h1") },
		`expected []string{"h1", "h2"}, saw []string{"h1"}`: func(n *note) {
			assert.Equal(n, []string{"h1", "h2"}, []string{"h1"})
		},
		`expected no error, saw no such lock`: func(n *note) { assert.NoError(n, errors.New("no such\nlock")) },
		`it must run: Should be true`:         func(n *note) { assert.True(n, false, "it must run") },
		`expected h1 to own it, saw "h2"`:     func(n *note) { assert.Fail(n, `expected h1 to own it, saw "h2"`) },
	} {
		var n note
		fail(&n)
		assert.Regexp(t, `^ \(checks_test\.go:\d+\): `+regexp.QuoteMeta(want)+`$`, summary(n.text))
	}
}
