package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What of the merged log a violation's file has.
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

// merge returns everything that was logged, done and seen in a period.
func (w *world) merge(from, to time.Time) []line {
	lines := w.journal.between(from, to)
	for _, n := range w.nodes {
		for _, p := range n.instance.processes() {
			source := fmt.Sprintf("%s [%d]", n.Name, p.PID())
			lines = append(lines, logLines(strings.NewReader(p.String()), source, from, to)...)
		}
		lines = append(lines, consulLines(filepath.Join(n.Dir, "consul.log"), n.Name+" consul", from, to)...)
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	return lines
}

// logLines returns the lines of a log in hclog's JSON format. What is no JSON,
// such as a panic, belongs to the line before.
func logLines(r io.Reader, source string, from, to time.Time) []line {
	var lines []line
	var at time.Time
	for s := bufio.NewScanner(r); s.Scan(); {
		text := s.Text()
		var entry map[string]any
		if json.Unmarshal(s.Bytes(), &entry) == nil {
			stamp, _ := entry["@timestamp"].(string)
			if t, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
				at, text = t, plain(entry)
			}
		}
		if !at.Before(from) && !at.After(to) {
			lines = append(lines, line{at: at, from: source, text: text})
		}
	}
	return lines
}

// plain writes a log entry as hclog would for people.
func plain(entry map[string]any) string {
	level, _ := entry["@level"].(string)
	message, _ := entry["@message"].(string)
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s", strings.ToUpper(level), message)
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
		return nil // the rest is worth having without
	}
	defer f.Close()
	var lines []line
	for s := bufio.NewScanner(f); s.Scan(); {
		stamp, text, _ := strings.Cut(s.Text(), " ")
		at, err := time.Parse("2006-01-02T15:04:05.000Z0700", stamp)
		if err == nil && !at.Before(from) && !at.After(to) {
			lines = append(lines, line{at: at, from: source, text: text})
		}
	}
	return lines
}

// writeViolation writes the file that explains v.
func writeViolation(file string, seed uint64, v violation, lines []line) error {
	var b strings.Builder
	fmt.Fprintf(&b, "invariant: %s\n", v.invariant)
	fmt.Fprintf(&b, "at:        %s\n", v.at.UTC().Format("15:04:05.000000"))
	fmt.Fprintf(&b, "saw:       %s\n", v.text)
	fmt.Fprintf(&b, "fault:     %s\n", v.during)
	fmt.Fprintf(&b, "seed:      %d (go run ./integration/chaos -seed %d)\n\n", seed, seed)
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

// tally is what a kind of fault did.
type tally struct {
	faults, void int
	longest      gap
}

// summary is what the whole run did.
type summary struct {
	kinds map[string]*tally
}

func (s *summary) of(kind string) *tally {
	if s.kinds == nil {
		s.kinds = make(map[string]*tally)
	}
	if s.kinds[kind] == nil {
		s.kinds[kind] = new(tally)
	}
	return s.kinds[kind]
}

// overlapping is the kind of two faults at once, for who had no owner then.
const overlapping = "two at once"

// group takes down a group of faults, which of them had nothing to do, and what
// the observer saw.
func (s *summary) group(g Group, void map[int]bool, gaps []gap) {
	kind := string(g.Faults[0].Kind)
	if len(g.Faults) > 1 {
		kind = overlapping
	}
	for _, f := range g.Faults {
		t := s.of(string(f.Kind))
		t.faults++
		if void[f.Number] {
			t.void++
		}
	}
	t := s.of(kind)
	for _, g := range gaps {
		if g.length() > t.longest.length() {
			t.longest = g
		}
	}
}

// print writes the summary.
func (s *summary) print(out io.Writer) {
	fmt.Fprintf(out, "\n%-18s %6s %14s   %s\n", "fault", "times", "nothing there", "longest without owner")
	names := slices.SortedFunc(maps.Keys(s.kinds), func(a, b string) int {
		return cmp.Or(cmp.Compare(boolOf(a == overlapping), boolOf(b == overlapping)), cmp.Compare(a, b))
	})
	for _, name := range names {
		t := s.kinds[name]
		fmt.Fprintf(out, "%-18s %6d %14d   %s\n", name, t.faults, t.void, t.longest)
	}
}

func boolOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// String tells the gap's length and where it was.
func (g gap) String() string {
	if g.length() == 0 {
		return "below " + silence.String()
	}
	return fmt.Sprintf("%.2f s (%s)", g.length().Seconds(), g.vip)
}
