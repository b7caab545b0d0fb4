package main

import (
	"errors"
	"sync"
)

// latch is a harm that several faults may want done at the same time: the first
// that wants it does it, the last that no longer does undoes it. It is safe for
// concurrent use.
type latch struct {
	do, undo func() error

	mu    sync.Mutex
	wants int
}

func (l *latch) hold() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wants++
	if l.wants > 1 {
		return nil
	}
	return l.do()
}

func (l *latch) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wants--
	if l.wants > 0 {
		return nil
	}
	return l.undo()
}

// held says if the harm is done at present.
func (l *latch) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wants > 0
}

// during holds all of the latches while f runs.
func during(f func(), latches ...*latch) error {
	var errs []error
	for _, l := range latches {
		errs = append(errs, l.hold())
	}
	f()
	for _, l := range latches {
		errs = append(errs, l.release())
	}
	return errors.Join(errs...)
}
