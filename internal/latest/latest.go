// Package latest passes news from one goroutine to others that may be busy when it
// comes. A busy goroutine misses values that were replaced meanwhile, but never the
// newest.
//
//   - A [Latest] holds a value and tells when another takes its place. Any
//     number of goroutines may wait for the same change.
//   - A [Wake] carries no value. It wakes one goroutine, which then looks for
//     itself.
//
// Neither ever blocks the sender, and neither starts a goroutine.
package latest

import "sync"

// Latest holds the newest value of something. The zero Latest holds the zero T.
// It is safe for concurrent use; the values should be immutable, because all
// callers of Get share them.
type Latest[T any] struct {
	mu      sync.Mutex // guards all following fields
	value   T
	changed chan struct{} // closed by the next Set; nil until Get is called
}

// Get returns the value and a channel that closes as soon as Set replaces it.
func (l *Latest[T]) Get() (T, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.value, l.changed
}

// Set replaces the value and wakes all that wait for a change, also if the new value
// equals the old one.
func (l *Latest[T]) Set(value T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.value = value
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}
