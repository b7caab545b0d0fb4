package main

import (
	"fmt"
	"sync"
	"time"
)

// line is one thing that was done, seen or logged.
type line struct {
	at   time.Time
	from string // who says so
	text string
}

// String is the line as the merged log has it.
func (l line) String() string {
	return fmt.Sprintf("%s  %-14s %s", l.at.UTC().Format("15:04:05.000000"), l.from, l.text)
}

// journal takes down what is done and seen. It is safe for concurrent use.
type journal struct {
	mu    sync.Mutex
	lines []line
}

func (j *journal) note(from, format string, args ...any) {
	j.noteAt(time.Now(), from, format, args...)
}

func (j *journal) noteAt(at time.Time, from, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line{at: at, from: from, text: fmt.Sprintf(format, args...)})
}

// between returns the lines of a period, in the order in which they were noted.
func (j *journal) between(from, to time.Time) []line {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []line
	for _, l := range j.lines {
		if !l.at.Before(from) && !l.at.After(to) {
			found = append(found, l)
		}
	}
	return found
}
