package simulation

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// journalSize is how many lines the log of a violation has at most. A cluster of three
// hosts writes some 30 to 100 in a second.
const journalSize = 6000

// journal keeps the latest lines about everything that happens in a cluster. A line is
// formatted only if it is read. It is safe for concurrent use.
type journal struct {
	start time.Time

	mu    sync.Mutex // guards all following fields
	lines []line     // a ring
	next  int
}

type line struct {
	at     time.Duration
	source string
	format string
	args   []any // immutable
}

func newJournal() *journal {
	return &journal{start: time.Now(), lines: make([]line, 0, journalSize)}
}

// elapsed is the virtual time since the start.
func (j *journal) elapsed() time.Duration { return time.Since(j.start) }

// add adds a line. The arguments must not change any more.
func (j *journal) add(source, format string, args ...any) {
	l := line{j.elapsed(), source, format, args}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lines) < journalSize {
		j.lines = append(j.lines, l)
		return
	}
	j.lines[j.next] = l
	j.next = (j.next + 1) % journalSize
}

// String is the log as text, the oldest line first.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for i := range j.lines {
		l := j.lines[(j.next+i)%len(j.lines)]
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
