package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// settleLimit is how long it may take until every address has an owner again: Consul
// has to recover first.
const settleLimit = 90 * time.Second

// options says what to run.
type options struct {
	programs lab.Programs
	world    lab.World
	seed     uint64
	faults   int
	limit    time.Duration // begin no group after this time; 0: no limit
	dir      string        // for the files of violations
	out      io.Writer
}

// run is one run of faults.
type run struct {
	options
	journal journal
	grace   grace
	lab     *chaosLab
	watch   *watch
	summary summary

	mu         sync.Mutex // guards all following fields
	violations []violation
	during     string // description of the newest group
}

// chaos runs the faults and returns the violations.
func chaos(ctx context.Context, o options) (found []violation, err error) {
	r := &run{options: o}
	if r.lab, err = newChaosLab(ctx, o, &r.journal, r.violated); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.lab.Close()) }()
	r.watch = newWatch(r.lab, &r.grace, r.violated)
	r.grace.extend(time.Now(), settleLimit)

	g, ctx := errgroup.WithContext(ctx)
	background, stop := context.WithCancel(ctx)
	g.Go(func() error { return r.watch.run(background) })
	for _, n := range r.lab.nodes {
		g.Go(func() error { return n.instance.run(background) })
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
	r.lab.excuses.print(o.out)
	return r.violations, err
}

// violated records a violation.
func (r *run) violated(invariant, format string, args ...any) {
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
	for _, g := range Schedule(r.world, r.seed, r.faults) {
		if r.limit > 0 && time.Since(began) > r.limit || lab.Sleep(ctx, g.Pause) != nil {
			break
		}
		if err := r.group(ctx, g); err != nil {
			return err
		}
		r.write(false)
	}
	return ctx.Err()
}

// group runs one group and reports what it did.
func (r *run) group(ctx context.Context, g Group) error {
	r.begin(g.String())
	began := time.Now()
	noTarget, err := r.allFaults(ctx, g)
	if err != nil {
		return fmt.Errorf("%s: %w", g, err)
	}
	over := time.Now()
	if g.Settle {
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	gaps := r.watch.gapsSince(began)
	r.summary.group(g, noTarget, gaps)
	fmt.Fprintf(r.out, "%s  %s: %s without owner, settled after %v\n",
		over.UTC().Format("15:04:05"), g, longestOf(gaps), time.Since(over).Round(10*time.Millisecond))
	return nil
}

// begin names what violations from now on happen during.
func (r *run) begin(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.during = what
}

// allFaults runs the faults of a group at the same time. It returns the numbers of
// those that had no target.
func (r *run) allFaults(ctx context.Context, g Group) (noTarget map[int]bool, err error) {
	var mu sync.Mutex
	noTarget = make(map[int]bool)
	all, ctx := errgroup.WithContext(ctx)
	for _, f := range g.Faults {
		all.Go(func() error {
			_ = lab.Sleep(ctx, f.After)
			err := r.fault(ctx, f)
			if errors.Is(err, errNoTarget) {
				mu.Lock()
				defer mu.Unlock()
				noTarget[f.Number] = true
				return nil
			}
			return err
		})
	}
	err = all.Wait()
	return noTarget, err
}

// fault runs one fault. An address may have no owner for a time after its beginning and
// after its end.
func (r *run) fault(ctx context.Context, f Fault) error {
	limit := ownerLimit
	if f.Kind == HostDeath || f.Kind == LeaderDeath {
		limit = deathLimit
	}
	r.excuse(f, limit)
	r.journal.note("FAULT", "%s begins", f)
	err := r.lab.apply(ctx, f)
	r.journal.note("FAULT", "%s is over: %v", f, err)
	r.excuse(f, ownerLimit)
	return err
}

// excuse lets all addresses have no owner for a time, and an address that a stranger
// claims for longer.
func (r *run) excuse(f Fault, limit time.Duration) {
	now := time.Now()
	r.grace.extend(now, limit)
	if f.Kind == ForeignClaim || f.Kind == ForeignHost {
		r.grace.extendOne(vipOf(f.VIP), now, contestLimit)
	}
}

// settle waits until Consul is ready and every address has an owner.
func (r *run) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	if err := r.lab.Cluster.WaitReady(ctx); err != nil {
		return fmt.Errorf("consul did not recover: %w", err)
	}
	if err := lab.Await(ctx, r.watch.settled); err != nil {
		r.violated("settles", "%v", err)
		return fmt.Errorf("not settled: %w", err)
	}
	r.journal.note("watch", "settled")
	r.watch.checkUsage()
	return nil
}

// finish stops every instance and waits until no address is bound.
func (r *run) finish(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.begin("the end: all instances are stopped")
	r.grace.extend(time.Now(), time.Hour)
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	var all errgroup.Group
	for _, n := range r.lab.nodes {
		all.Go(func() error { return n.instance.retire(ctx) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return lab.Await(ctx, func() error {
		bound, err := r.lab.bound()
		if err == nil && len(bound) > 0 {
			err = fmt.Errorf("still bound: %v", bound)
		}
		return err
	})
}

// write writes the files of violations. Unless it is the last call, it leaves out those
// for which the period after the violation is not over yet.
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
		lines := r.lab.merge(v.at.Add(-before), v.at.Add(after))
		if err := writeViolation(file, r.options, *v, lines); err != nil {
			fmt.Fprintln(r.out, err)
			continue
		}
		fmt.Fprintf(r.out, "violation %d (%s): see %s\n", i+1, v.invariant, file)
	}
}
