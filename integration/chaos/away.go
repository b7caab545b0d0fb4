package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// hearLimit is how long a host that comes back may go on to serve an address that
	// another host has taken meanwhile: until it hears that host, or its watch.
	hearLimit = 1500 * time.Millisecond
	// unawareLimit is the same if its instance is killed or frozen, so that only its kernel
	// ends the address, after the longest dead_man.
	unawareLimit = orphanLimit + time.Second
)

// Names of the cases in which two hosts may answer, as the README's limits allow it.
const (
	takenWhileAway        = "taken from while away"
	takenWhileAwayUnaware = "taken from while away, killed or frozen"
)

// absence is a time in which no frame of a host got through.
type absence struct {
	host     string
	from, to time.Time // to: zero while it lasts
}

// excuses knows which hosts were away, and counts the questions with two answers that
// this explains. It is safe for concurrent use, except that unaware does not change.
type excuses struct {
	unaware func(host string, since time.Time) bool // its instance was killed or frozen at any time since then

	mu       sync.Mutex // guards all following fields
	absences []*absence
	decided  map[question]bool // the questions that were looked at: whether they are excused
	count    map[string]int    // excused questions by the name of the case
	longest  map[string]time.Duration
}

// question tells a question with two answers from all others.
type question struct {
	addr, at string
}

// during notes that a host is away while f runs.
func (e *excuses) during(host string, f func() error) error {
	a := &absence{host: host, from: time.Now()}
	e.mu.Lock()
	e.absences = append(e.absences, a)
	e.mu.Unlock()
	err := f()
	e.mu.Lock()
	a.to = time.Now()
	e.mu.Unlock()
	return err
}

// excused reports whether a question may have had two answers. The first look decides.
func (e *excuses) excused(d lab.Double) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := question{d.Addr.String(), d.At.String()}
	if excused, known := e.decided[q]; known {
		return excused
	}
	if e.decided == nil {
		e.decided, e.count, e.longest = make(map[question]bool), make(map[string]int), make(map[string]time.Duration)
	}
	name, after, excused := e.find(d)
	e.decided[q] = excused
	if excused {
		e.count[name]++
		e.longest[name] = max(e.longest[name], after)
	}
	return excused
}

// find returns the name of the case that explains a question with two answers, and how
// long after the return of a host it was. e.mu must be locked.
func (e *excuses) find(d lab.Double) (name string, after time.Duration, excused bool) {
	for _, a := range slices.Backward(e.absences) {
		if !slices.Contains(d.Hosts, a.host) || d.At.Before(a.from) {
			continue
		}
		if !a.to.IsZero() {
			after = max(0, d.At.Sub(a.to))
		}
		if after <= hearLimit {
			return takenWhileAway, after, true
		}
		if after <= unawareLimit && e.unaware(a.host, a.from.Add(-unawareLimit)) {
			return takenWhileAwayUnaware, after, true
		}
	}
	return "", 0, false
}

// print prints how often each case explained two answers.
func (e *excuses) print(out io.Writer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	for name, n := range e.count {
		lines = append(lines, fmt.Sprintf("two owners, %s: %d questions, the last %.2f s after the return\n", name, n, e.longest[name].Seconds()))
	}
	slices.Sort(lines)
	fmt.Fprint(out, strings.Join(lines, ""))
}
