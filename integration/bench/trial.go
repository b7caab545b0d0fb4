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
	// undoTimeout is how long it may take to restore everything.
	undoTimeout = 90 * time.Second
	// settleTime is the time between the moment when all are ready and the failure. After it
	// consul-vip knows what the link loses, as it does in a cluster that runs.
	settleTime = 3 * time.Second
)

// trial is one failure of one host with one peer, or with several at the same time.
// All daemons start for it and stop after it.
type trial struct {
	*benchLab
	scenario   scenario
	repetition int
	hosts      []*lab.Host // the owner first
	owner      *lab.Host
	entries    []*entry
	at         time.Time // when the failure happened
}

// errLeaderMoved says that Consul has elected another leader since the owner was chosen.
var errLeaderMoved = errors.New("consul has elected another leader")

// newTrial prepares a repetition.
func (b *benchLab) newTrial(sc scenario, together []peer, repetition int) *trial {
	t := &trial{benchLab: b, scenario: sc, repetition: repetition}
	for number, p := range together {
		t.entries = append(t.entries, newEntry(t, p, number))
	}
	return t
}

// run does the complete trial and returns a result for every entry. An entry that
// fails takes no further part; the others go on.
func (t *trial) run(ctx context.Context) []result {
	all := slices.Clone(t.entries)
	undo, err := t.play(ctx)
	each(all, func(e *entry) error {
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

// play starts all entries, causes the failure and measures what follows. The returned
// function undoes the failure; it is nil where the failure needs no undoing.
func (t *trial) play(ctx context.Context) (undo undo, err error) {
	undo = func(context.Context) error { return nil } // no failure yet
	if t.needsConsul() {
		if err := t.resetConsul(ctx); err != nil {
			return undo, err
		}
	}
	if err := t.chooseOwner(); err != nil {
		return undo, err
	}
	each(t.entries, func(e *entry) error { return e.start(ctx) })
	t.entries = slices.DeleteFunc(t.entries, func(e *entry) bool { return e.result.err != nil })
	if len(t.entries) == 0 {
		return undo, nil
	}
	if err := lab.Sleep(ctx, settleTime); err != nil {
		return undo, err
	}
	if err := t.checkRole(); err != nil {
		return undo, err
	}
	if undo, err = t.scenario.cause(ctx, t); err != nil {
		return undo, fmt.Errorf("causing the failure: %w", err)
	}
	each(t.entries, func(e *entry) error {
		if err := e.await(ctx); err != nil {
			return err
		}
		r, err := e.collect(ctx)
		e.result = r
		return err
	})
	return undo, nil
}

// chooseOwner orders the hosts so that the first one has the role of the scenario. Each
// repetition has another owner, as far as the role allows it.
func (t *trial) chooseOwner() error {
	for i := range t.Servers {
		t.hosts = append(t.hosts, t.Servers[(t.repetition+i)%len(t.Servers)])
	}
	if t.scenario.role != anyHost && t.needsConsul() {
		led, err := t.Cluster.Leader()
		if err != nil {
			return err
		}
		slices.SortStableFunc(t.hosts, func(a, b *lab.Host) int { return t.unfit(a, led.Host) - t.unfit(b, led.Host) })
	}
	t.owner = t.hosts[0]
	return nil
}

// unfit is 1 for a host that does not have the role of the scenario, else 0.
func (t *trial) unfit(h, led *lab.Host) int {
	if (h == led) == (t.scenario.role == leader) {
		return 0
	}
	return 1
}

// checkRole returns an error unless the owner still has the role of the scenario.
func (t *trial) checkRole() error {
	if t.scenario.role == anyHost || !t.needsConsul() {
		return nil
	}
	led, err := t.Cluster.Leader()
	if err == nil && t.unfit(t.owner, led.Host) != 0 {
		err = errLeaderMoved
	}
	return err
}

// resetConsul waits until Consul is ready and removes the keys of earlier repetitions.
func (t *trial) resetConsul(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, undoTimeout, errors.New("consul was not ready in time"))
	defer cancel()
	if err := t.Cluster.WaitReady(ctx); err != nil {
		return err
	}
	_, err := t.Cluster.Servers[0].API.KV().DeleteTree(lab.DefaultKeys.All(), nil)
	return err
}

// each calls do for the entries at the same time and records the errors.
func each(entries []*entry, do func(*entry) error) {
	var running sync.WaitGroup
	for _, e := range entries {
		running.Go(func() { e.result.err = do(e) })
	}
	running.Wait()
}

func (t *trial) needsConsul() bool {
	return slices.ContainsFunc(t.entries, func(e *entry) bool { return e.peer.needsConsul() })
}

// fail makes the failure happen by act, and records when, and the processes that it
// hits.
func (t *trial) fail(act func() error) error {
	for _, e := range t.entries {
		e.old = e.daemons[0].current()
	}
	t.at = time.Now()
	return act()
}

// failDaemons makes a failure of each of the owner's daemons happen by act. These
// daemons do not start again.
func (t *trial) failDaemons(act func(*entry, *daemon) error) error {
	for _, e := range t.entries {
		e.daemons[0].retire()
	}
	return t.fail(func() error {
		var errs []error
		for _, e := range t.entries {
			errs = append(errs, act(e, e.daemons[0]))
		}
		return errors.Join(errs...)
	})
}

// end stops everything that was started and undoes the failure. It goes on after an
// error. After an interrupt it does only what is quick.
func (t *trial) end(ctx context.Context, all []*entry, undo undo) error {
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), undoTimeout, errors.New("not restored in time"))
	defer cancel()
	var errs []error
	if undo != nil && !interrupted {
		errs = append(errs, undo(ctx))
	}
	each(all, func(e *entry) error { return errors.Join(e.result.err, e.end()) })
	if !interrupted {
		each(all, func(e *entry) error { return errors.Join(e.result.err, e.clear(ctx)) })
	}
	return errors.Join(errs...)
}
