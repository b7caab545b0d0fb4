package main

import (
	"fmt"
	"sync"
	"time"
)

// line is one line of the merged log.
type line struct {
	at     time.Time
	source string
	text   string
}

// String formats the line for the merged log.
func (l line) String() string {
	return fmt.Sprintf("%s  %-14s %s", l.at.UTC().Format("15:04:05.000000"), l.source, l.text)
}

// journal records the actions of chaos and what it sees. It is safe for concurrent use.
type journal struct {
	mu    sync.Mutex // guards all following fields
	lines []line
}

func (j *journal) note(source, format string, args ...any) {
	j.noteAt(time.Now(), source, format, args...)
}

func (j *journal) noteAt(at time.Time, source, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line{at: at, source: source, text: fmt.Sprintf(format, args...)})
}

// between returns the lines of a period, in the order in which they were recorded.
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
