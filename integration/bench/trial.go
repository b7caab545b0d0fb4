package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// undoTime is how long it may take to have everything as it was before.
	undoTime = 90 * time.Second
	// settleTime lies between all being ready and the failure.
	settleTime = 1200 * time.Millisecond
)

// trial is one failure of one host, through which one peer or several at the
// same time go once. All daemons are started for it and stopped after it.
type trial struct {
	*stage
	scenario   scenario
	repetition int
	hosts      []*lab.Host // the owner first
	owner      *lab.Host
	entries    []*entry
	led        bool      // the owner is Consul's leader, too
	at         time.Time // when the failure happened
}

// newTrial prepares a repetition. Another host is the owner in each.
func (s *stage) newTrial(sc scenario, crew []peer, repetition int) *trial {
	t := &trial{stage: s, scenario: sc, repetition: repetition}
	for i := range s.Servers {
		t.hosts = append(t.hosts, s.Servers[(repetition+i)%len(s.Servers)])
	}
	t.owner = t.hosts[0]
	for number, p := range crew {
		t.entries = append(t.entries, newEntry(t, p, number))
	}
	return t
}

// run goes through the whole trial and returns a result for every entry. An
// entry that fails takes no part any more; the others go on.
func (t *trial) run(ctx context.Context) []result {
	all := slices.Clone(t.entries)
	undo, err := t.play(ctx)
	t.each(all, func(e *entry) error {
		failed := errors.Join(e.result.err, err)
		if failed != nil && ctx.Err() == nil {
			e.dump()
		}
		return failed
	})
	err = t.end(ctx, all, undo)
	results := make([]result, len(all))
	for i, e := range all {
		e.result.err = errors.Join(e.result.err, err)
		results[i] = e.result
	}
	return results
}

// play has the failure happen and looks what comes of it. What it returns
// undoes the failure; it may be nil.
func (t *trial) play(ctx context.Context) (undo undo, err error) {
	if t.needsConsul() {
		ready, cancel := context.WithTimeoutCause(ctx, undoTime, errors.New("consul is not ready in time"))
		defer cancel()
		if err := t.cluster.WaitReady(ready); err != nil {
			return nil, err
		}
		// Every repetition is the first one, as far as Consul knows.
		if _, err := t.cluster.Servers[0].API.KV().DeleteTree("consul-vip/", nil); err != nil {
			return nil, err
		}
	}
	t.each(t.entries, func(e *entry) error { return e.start(ctx) })
	t.entries = slices.DeleteFunc(t.entries, func(e *entry) bool { return e.result.err != nil })
	if len(t.entries) == 0 {
		return nil, nil
	}
	if err := pause(ctx, settleTime); err != nil {
		return nil, err
	}
	if t.needsConsul() {
		leader, err := t.cluster.Leader()
		if err != nil {
			return nil, err
		}
		t.led = leader.Host == t.owner
	}
	if undo, err = t.scenario.harm(ctx, t); err != nil {
		return undo, fmt.Errorf("making it happen: %w", err)
	}
	t.each(t.entries, func(e *entry) error {
		if err := e.await(ctx); err != nil {
			return err
		}
		r, err := e.collect(ctx)
		e.result = r
		return err
	})
	return undo, nil
}

// each calls do for the entries at the same time and takes down the errors.
func (t *trial) each(entries []*entry, do func(*entry) error) {
	var running sync.WaitGroup
	for _, e := range entries {
		running.Go(func() { e.result.err = do(e) })
	}
	running.Wait()
}

func (t *trial) needsConsul() bool {
	return slices.ContainsFunc(t.entries, func(e *entry) bool { return e.peer.needsConsul() })
}

// strike takes down when and to whom the failure happens, which act makes happen.
func (t *trial) strike(act func() error) error {
	for _, e := range t.entries {
		e.old = e.daemons[0].current()
	}
	t.at = time.Now()
	return act()
}

// strikeDaemons retires the owner's daemons and then strikes each of them.
func (t *trial) strikeDaemons(act func(*entry, *daemon) error) error {
	for _, e := range t.entries {
		e.daemons[0].retire()
	}
	return t.strike(func() error {
		var errs []error
		for _, e := range t.entries {
			errs = append(errs, act(e, e.daemons[0]))
		}
		return errors.Join(errs...)
	})
}

// end stops everything that was started and undoes the failure. It goes on after
// an error, and after an interrupt does only what is quick.
func (t *trial) end(ctx context.Context, all []*entry, undo undo) error {
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), undoTime, errors.New("not as before in time"))
	defer cancel()
	var errs []error
	if undo != nil && !interrupted {
		errs = append(errs, undo(ctx))
	}
	t.each(all, func(e *entry) error { return errors.Join(e.result.err, e.end()) })
	if interrupted {
		return errors.Join(errs...)
	}
	t.each(all, func(e *entry) error { return errors.Join(e.result.err, e.clear(ctx)) })
	return errors.Join(errs...)
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
