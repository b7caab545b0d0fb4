package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// stopLimit is how long an instance may take to stop: 4 s, and what a busy machine may
// add.
const stopLimit = 7 * time.Second

// Documented exit codes of consul-vip.
const (
	exitOK       = 0
	exitFailure  = 1
	exitLost     = 4
	exitConflict = 5
	exitKilled   = -1 // no code of its own
)

// checkExit returns what is wrong with the end of a process at this time, after these
// actions, with this exit code and output.
func checkExit(code int, done actions, at time.Time, output string) []string {
	var problems []string
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, sign := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(output, sign) {
			wrong("its output has %q", sign)
		}
	}
	told := !done.signalled.IsZero()
	switch code {
	case exitOK:
		if !told {
			wrong("no signal told it to stop")
		}
	case exitLost, exitConflict:
	case exitKilled:
		if !done.killed {
			wrong("a signal killed it that chaos did not send")
		}
	default:
		wrong("it is not an expected exit code")
	}
	if told && !done.killed {
		since := done.signalled
		if done.thawed.After(since) {
			since = done.thawed
		}
		if took := at.Sub(since); took > stopLimit {
			wrong("it took %v to stop", took.Round(time.Millisecond))
		}
	}
	return problems
}

// loggedReason returns the last reason in a log.
func loggedReason(entries []lab.Entry) string {
	for i := len(entries) - 1; i >= 0; i-- {
		if r := entries[i].Get("reason"); r != "" {
			return entries[i].Message() + ": " + r
		}
	}
	return "no reason logged"
}
