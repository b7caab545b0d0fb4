package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// A violation's file has the merged log from before until after it.
const (
	before = 20 * time.Second
	after  = 10 * time.Second
)

// violation is an invariant that did not hold.
type violation struct {
	invariant string
	at        time.Time
	text      string
	during    string // the newest group of faults
	written   bool
}

// merge returns the journal and all logs of a period in one.
func (l *chaosLab) merge(from, to time.Time) []line {
	lines := l.journal.between(from, to)
	for _, n := range l.nodes {
		for _, p := range n.instance.processes() {
			source := fmt.Sprintf("%s [%d]", n.Name, p.PID())
			lines = append(lines, logLines(strings.NewReader(p.String()), source, from, to)...)
		}
	}
	for _, m := range l.machines() {
		lines = append(lines, consulLines(m.ConsulLog(), m.Name+" consul", from, to)...)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	return lines
}

// logLines returns the lines of a log in hclog's JSON format. A line that is not JSON,
// such as a panic, gets the time of the line before.
func logLines(r io.Reader, source string, from, to time.Time) []line {
	var lines []line
	var at time.Time
	for s := bufio.NewScanner(r); s.Scan(); {
		text := s.Text()
		var entry lab.Entry
		if json.Unmarshal(s.Bytes(), &entry) == nil && !entry.Time().IsZero() {
			at, text = entry.Time(), plain(entry)
		}
		if !at.Before(from) && !at.After(to) {
			lines = append(lines, line{at: at, source: source, text: text})
		}
	}
	return lines
}

// plain formats a log entry as hclog does without JSON.
func plain(entry lab.Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s", strings.ToUpper(entry.Get("@level")), entry.Message())
	for _, k := range slices.Sorted(maps.Keys(entry)) {
		if !strings.HasPrefix(k, "@") {
			fmt.Fprintf(&b, " %s=%v", k, entry[k])
		}
	}
	return b.String()
}

// consulLines returns the lines of a Consul log.
func consulLines(file, source string, from, to time.Time) []line {
	f, err := os.Open(file)
	if err != nil {
		return nil // the other logs are still useful
	}
	defer f.Close()
	var lines []line
	for s := bufio.NewScanner(f); s.Scan(); {
		stamp, text, _ := strings.Cut(s.Text(), " ")
		at, err := time.Parse("2006-01-02T15:04:05.000Z0700", stamp)
		if err == nil && !at.Before(from) && !at.After(to) {
			lines = append(lines, line{at: at, source: source, text: text})
		}
	}
	return lines
}

// writeViolation writes the file for v with the merged log.
func writeViolation(file string, o options, v violation, lines []line) error {
	var b strings.Builder
	fmt.Fprintf(&b, "invariant: %s\n", v.invariant)
	fmt.Fprintf(&b, "at:        %s\n", v.at.UTC().Format("15:04:05.000000"))
	fmt.Fprintf(&b, "saw:       %s\n", v.text)
	fmt.Fprintf(&b, "fault:     %s\n", v.during)
	fmt.Fprintf(&b, "world:     %s\n", o.world)
	fmt.Fprintf(&b, "seed:      %d (go run ./integration/chaos -world %s -seed %d)\n\n", o.seed, o.world, o.seed)
	marked := false
	for _, l := range lines {
		if !marked && l.at.After(v.at) {
			fmt.Fprintf(&b, "-------- %s: %s\n", v.invariant, v.text)
			marked = true
		}
		fmt.Fprintln(&b, l)
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// invariantsOf returns the names of the invariants that did not hold.
func invariantsOf(violations []violation) []string {
	var names []string
	for _, v := range violations {
		if !slices.Contains(names, v.invariant) {
			names = append(names, v.invariant)
		}
	}
	return names
}
