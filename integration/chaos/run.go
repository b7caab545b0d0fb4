package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// settleLimit is how long it may take until everything is as it should be:
// Consul has to be itself again first.
const settleLimit = 90 * time.Second

// options is what to run.
type options struct {
	consul, binary string
	seed           uint64
	faults         int
	limit          time.Duration // begin no group after that; 0: none
	dir            string        // for the files of violations
	out            io.Writer
}

// run is one run of faults.
type run struct {
	options
	journal journal
	clock   clock
	world   *world
	watch   *watch
	summary summary

	mu         sync.Mutex
	violations []violation
	during     string // the newest group
}

// chaos runs the faults and returns the violations.
func chaos(ctx context.Context, o options) (found []violation, err error) {
	r := &run{options: o}
	if r.world, err = newWorld(ctx, o.consul, o.binary, &r.journal, r.blame); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.world.close()) }()
	r.watch = newWatch(r.world, &r.clock, r.blame)
	r.clock.event(time.Now(), settleLimit)

	g, ctx := errgroup.WithContext(ctx)
	below, stop := context.WithCancel(ctx)
	g.Go(func() error { return r.watch.run(below) })
	for _, n := range r.world.nodes {
		g.Go(func() error { return n.instance.run(below) })
	}
	g.Go(func() error {
		defer stop()
		if err := r.play(ctx); err != nil {
			return err
		}
		return r.finish(ctx)
	})
	err = g.Wait()
	r.write(true)
	r.summary.print(o.out)
	return r.violations, err
}

// blame takes down a violation.
func (r *run) blame(invariant, format string, args ...any) {
	v := violation{invariant: invariant, at: time.Now(), text: fmt.Sprintf(format, args...)}
	r.mu.Lock()
	v.during = r.during
	r.violations = append(r.violations, v)
	r.mu.Unlock()
	r.journal.noteAt(v.at, "VIOLATION", "%s: %s", invariant, v.text)
	fmt.Fprintf(r.out, "VIOLATION %s: %s: %s\n", v.at.UTC().Format("15:04:05.000"), invariant, v.text)
}

// play runs one group of faults after the other.
func (r *run) play(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	began := time.Now()
	for _, g := range Schedule(r.seed, r.faults) {
		if r.limit > 0 && time.Since(began) > r.limit || !sleep(ctx, g.Pause) {
			break
		}
		if err := r.group(ctx, g); err != nil {
			return err
		}
		r.write(false)
	}
	return ctx.Err()
}

// group runs one group.
func (r *run) group(ctx context.Context, g Group) error {
	var names []string
	for _, f := range g.Faults {
		names = append(names, f.String())
	}
	label := strings.Join(names, ", and ")
	if len(names) > 1 {
		label += fmt.Sprintf(" (%v later)", g.Faults[1].After)
	}
	r.mu.Lock()
	r.during = label
	r.mu.Unlock()
	began := time.Now()
	var mu sync.Mutex
	void := make(map[int]bool)
	all, faulty := errgroup.WithContext(ctx)
	for _, f := range g.Faults {
		all.Go(func() error {
			sleep(faulty, f.After)
			err := r.fault(faulty, f)
			if errors.Is(err, errVoid) {
				mu.Lock()
				void[f.Number] = true
				mu.Unlock()
				return nil
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("%s: %w", label, err)
	}
	over := time.Now()
	if g.Settle {
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	gaps := r.watch.gapsSince(began)
	r.summary.group(g, void, gaps)
	longest := gap{}
	for _, g := range gaps {
		if g.length() > longest.length() {
			longest = g
		}
	}
	fmt.Fprintf(r.out, "%s  %s: %s without owner, settled after %v\n", over.UTC().Format("15:04:05"), label, longest, time.Since(over).Round(10*time.Millisecond))
	return nil
}

// fault runs one fault. The clock of the invariants starts anew at its
// beginning and at its end.
func (r *run) fault(ctx context.Context, f Fault) error {
	limit := ownerLimit
	if f.Kind == HostDeath {
		limit = deathLimit
	}
	r.clock.event(time.Now(), limit)
	r.journal.note("FAULT", "%s begins", f)
	err := r.world.apply(ctx, f)
	r.journal.note("FAULT", "%s is over: %v", f, err)
	r.clock.event(time.Now(), ownerLimit)
	return err
}

// settle waits until everything is as it should be.
func (r *run) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	if err := r.world.cluster.WaitReady(ctx); err != nil {
		return fmt.Errorf("consul does not come back: %w", err)
	}
	if err := lab.Await(ctx, r.watch.settled); err != nil {
		r.blame("settles", "%v", err)
		return fmt.Errorf("nothing settles: %w", err)
	}
	r.journal.note("watch", "settled")
	r.watch.weigh()
	return nil
}

// finish stops every instance and looks at what they leave behind.
func (r *run) finish(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.during = "the end: all are stopped"
	r.mu.Unlock()
	r.clock.event(time.Now(), time.Hour)
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	var all errgroup.Group
	for _, n := range r.world.nodes {
		all.Go(func() error { return n.instance.retire(ctx) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return lab.Await(ctx, func() error {
		bound, err := r.world.bound()
		if err != nil {
			return err
		}
		if len(bound) > 0 {
			return fmt.Errorf("still bound: %v", bound)
		}
		return nil
	})
}

// write writes the files of violations, those whose aftermath is too young yet
// only if it is the last call.
func (r *run) write(last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.violations {
		v := &r.violations[i]
		if v.written || !last && time.Since(v.at) < after {
			continue
		}
		v.written = true
		file := filepath.Join(r.dir, fmt.Sprintf("chaos-%d-%d.log", r.seed, i+1))
		lines := r.world.merge(v.at.Add(-before), v.at.Add(after))
		if err := writeViolation(file, r.seed, *v, lines); err != nil {
			fmt.Fprintln(r.out, err)
			continue
		}
		fmt.Fprintf(r.out, "violation %d (%s): see %s\n", i+1, v.invariant, file)
	}
}

// invariantsOf lists what was violated, for a reader.
func invariantsOf(violations []violation) []string {
	var names []string
	for _, v := range violations {
		if !slices.Contains(names, v.invariant) {
			names = append(names, v.invariant)
		}
	}
	return names
}
