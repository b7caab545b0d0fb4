package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// journalSize is how many lines the log of a violation has at most, and again as many
// about frames. A cluster of three hosts writes some 30 to 100 in a second, and some 500
// about frames if its host checks are fast.
const journalSize = 6000

// journal keeps the latest lines about everything that happens in a cluster. A line is
// formatted only if it is read. It is safe for concurrent use.
type journal struct {
	start time.Time

	mu     sync.Mutex // guards all following fields
	added  int
	events ring
	frames ring
}

// ring holds the latest lines, at most journalSize.
type ring struct {
	lines []line
	next  int
}

func (r *ring) add(l line) {
	if len(r.lines) < journalSize {
		r.lines = append(r.lines, l)
		return
	}
	r.lines[r.next] = l
	r.next = (r.next + 1) % journalSize
}

type line struct {
	number int
	at     time.Duration
	source string
	format string
	args   []any // immutable
}

// sourceWire is the source of the lines about frames.
const sourceWire = "wire"

func newJournal() *journal { return &journal{start: time.Now()} }

// elapsed is the virtual time since the start.
func (j *journal) elapsed() time.Duration { return time.Since(j.start) }

// add adds a line. The arguments must not change any more.
func (j *journal) add(source, format string, args ...any) {
	at := j.elapsed()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.added++
	to := &j.events
	if source == sourceWire {
		to = &j.frames
	}
	to.add(line{j.added, at, source, format, args})
}

// String is the log as text, the oldest line first.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := slices.Concat(j.events.lines, j.frames.lines)
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.number, b.number) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%11.6f %-8s %s\n", l.at.Seconds(), l.source, strings.TrimSpace(fmt.Sprintf(l.format, l.args...)))
	}
	return b.String()
}

// writer returns an io.Writer for the lines of a program.
func (j *journal) writer(source string) journalWriter { return journalWriter{j, source} }

type journalWriter struct {
	journal *journal
	source  string
}

// Write implements [io.Writer]. Each call writes one line.
func (w journalWriter) Write(b []byte) (int, error) {
	w.journal.add(w.source, "%s", string(b))
	return len(b), nil
}
