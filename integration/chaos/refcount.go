package main

import (
	"errors"
	"sync"
)

// refcount is a harm that several faults may hold at the same time: the first one does
// it, and the last one undoes it. It is safe for concurrent use.
type refcount struct {
	do, undo func() error

	mu    sync.Mutex // guards all following fields
	count int
}

// acquire adds a reference, and does the harm if it is the first one.
func (r *refcount) acquire() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	if r.count > 1 {
		return nil
	}
	return r.do()
}

// release removes a reference, and undoes the harm if it was the last one.
func (r *refcount) release() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count--
	if r.count > 0 {
		return nil
	}
	return r.undo()
}

// held reports whether the harm is done at present.
func (r *refcount) held() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count > 0
}

// during holds all of these harms while f runs.
func during(f func(), harms ...*refcount) error {
	var errs []error
	for _, h := range harms {
		errs = append(errs, h.acquire())
	}
	f()
	for _, h := range harms {
		errs = append(errs, h.release())
	}
	return errors.Join(errs...)
}
