package agent

import (
	"errors"
	"sync"
	"time"
)

// After a failure of this host the address is left to others for shortestBackOff.
// Each further failure doubles that, until longestBackOff; a minute of service
// resets it.
const (
	shortestBackOff = time.Second
	longestBackOff  = time.Minute
)

var errLinkDown = errors.New("the link is down")

// ineligible returns why this host could not serve the address now, or nil.
func (v *vip) ineligible() error {
	if v.link == nil {
		return v.fitness.reason()
	}
	if state, _ := v.link.state.Get(); !state.usable {
		return errLinkDown
	}
	return v.fitness.reason()
}

// fitness knows why this host cannot serve an address, apart from the state of its
// link. It is safe for concurrent use.
type fitness struct {
	changed func() // called after each change

	mu      sync.Mutex // guards all following fields
	foreign error      // another program of this host has bound the address
	unfit   error      // a service that the address requires is not fit
	unknown error      // whether it is, is not known yet
	failure error      // until retry fires
	backOff time.Duration
	retry   *time.Timer
	retryAt time.Time
}

// reason returns why the host cannot serve the address, or nil.
func (f *fitness) reason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.foreign != nil:
		return f.foreign
	case f.failure != nil:
		return f.failure
	}
	return f.unknown
}

// service returns why the service behind the address is not fit, or nil.
func (f *fitness) service() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unfit
}

// required returns why the services that the address requires are not fit, or not known to be;
// nil: they are.
func (f *fitness) required() (unfit, unknown error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unfit, f.unknown
}

// backOffLeft is for how long the address is still left to others after a failure.
func (f *fitness) backOffLeft() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure == nil {
		return 0
	}
	return max(time.Until(f.retryAt), 0)
}

// require sets why the services that the address requires are not fit, or not known to be.
func (f *fitness) require(unfit, unknown error) {
	f.mu.Lock()
	same := text(f.unfit) == text(unfit) && text(f.unknown) == text(unknown)
	f.unfit, f.unknown = unfit, unknown
	f.mu.Unlock()
	if !same {
		f.changed()
	}
}

// text is what an error says; empty for nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// isForeign reports whether another program is known to have bound the address.
func (f *fitness) isForeign() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.foreign != nil
}

// setForeign sets or, with nil, clears that another program has bound the address.
func (f *fitness) setForeign(err error) {
	f.mu.Lock()
	differs := (f.foreign == nil) != (err == nil)
	f.foreign = err
	f.mu.Unlock()
	if differs {
		f.changed()
	}
}

// fail leaves the address to others for a while, and returns for how long.
func (f *fitness) fail(reason error) time.Duration {
	f.mu.Lock()
	f.backOff = min(max(2*f.backOff, shortestBackOff), longestBackOff)
	backOff := f.backOff
	f.failure = reason
	if f.retry != nil {
		f.retry.Stop()
	}
	f.retry, f.retryAt = time.AfterFunc(backOff, f.retryNow), time.Now().Add(backOff)
	f.mu.Unlock()
	f.changed()
	return backOff
}

func (f *fitness) retryNow() {
	f.mu.Lock()
	f.failure = nil
	f.mu.Unlock()
	f.changed()
}

// served notes for how long the address was served.
func (f *fitness) served(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d >= longestBackOff {
		f.backOff = 0
	}
}

// close stops the timer. A retry that has fired may still call changed.
func (f *fitness) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retry != nil {
		f.retry.Stop()
	}
}
