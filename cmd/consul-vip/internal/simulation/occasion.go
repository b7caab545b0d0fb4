package simulation

import (
	"slices"
	"sync"
	"time"
)

// occasions are what faults wait for among many things that happen. They are safe for
// concurrent use.
type occasions[T any] struct {
	mu      sync.Mutex // guards waiting
	waiting []*occasion[T]
}

// occasion is the first thing that fits.
type occasion[T any] struct {
	among *occasions[T]
	fits  func(T) bool
	came  chan T
}

// watch waits for the first thing that fits, until stop is called.
func (o *occasions[T]) watch(fits func(T) bool) *occasion[T] {
	one := &occasion[T]{among: o, fits: fits, came: make(chan T, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, one)
	return one
}

// happens tells of a thing. It does not block.
func (o *occasions[T]) happens(thing T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, one := range o.waiting {
		if len(one.came) == 0 && one.fits(thing) {
			one.came <- thing
		}
	}
}

// await returns the thing, unless none comes in time.
func (o *occasion[T]) await(timeout time.Duration) (thing T, ok bool) {
	select {
	case thing = <-o.came:
		return thing, true
	case <-time.After(timeout):
		return thing, false
	}
}

func (o *occasion[T]) stop() {
	o.among.mu.Lock()
	defer o.among.mu.Unlock()
	o.among.waiting = slices.DeleteFunc(o.among.waiting, func(other *occasion[T]) bool { return other == o })
}
