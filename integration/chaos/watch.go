package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// How often to look at the observer, the kernels and Consul.
const (
	wireInterval   = 10 * time.Millisecond
	kernelInterval = 50 * time.Millisecond
	consulInterval = 250 * time.Millisecond
)

// watch looks at the wire, the kernels and Consul all the time, writes changes into the
// journal and reports violations. Its methods are safe for concurrent use.
type watch struct {
	lab      *chaosLab
	grace    *grace
	violated reportViolation

	mu      sync.Mutex // guards all following fields
	answers map[netip.Addr]*answers
	gaps    []gap                   // that have ended
	bound   map[netip.Addr][]string // names of the hosts
	consul  consulState
	known   bool          // consul is up to date
	used    map[int]usage // by process ID, when the process had first settled
}

func newWatch(l *chaosLab, g *grace, violated reportViolation) *watch {
	w := &watch{lab: l, grace: g, violated: violated, answers: make(map[netip.Addr]*answers), used: make(map[int]usage)}
	for _, vip := range allVIPs() {
		w.answers[vip] = &answers{vip: vip, last: time.Now()}
	}
	return w
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) error {
	var looking sync.WaitGroup
	every := func(d time.Duration, look func() error) {
		looking.Go(func() {
			for lab.Sleep(ctx, d) == nil {
				if err := look(); err != nil {
					w.lab.journal.note("watch", "%v", err)
				}
			}
		})
	}
	var d doubles
	every(wireInterval, func() error { w.lookAtWire(&d); return nil })
	every(kernelInterval, w.lookAtKernels)
	var o orphans
	every(consulInterval, func() error { w.lookAtConsul(ctx, &o); return nil })
	looking.Wait()
	return nil
}

// lookAtWire looks for addresses that have had no owner for too long, or two owners.
func (w *watch) lookAtWire(d *doubles) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, vip := range allVIPs() {
		w.lookForAnswers(w.answers[vip])
	}
	news, first := d.look(slices.DeleteFunc(w.lab.Wire.Doubles(), w.lab.allowed))
	for _, n := range news {
		w.lab.journal.noteAt(n.At, "wire", "%s: %s answered one question", n.Addr, strings.Join(n.Hosts, " and "))
	}
	for _, f := range first {
		w.violated("two owners", "%s: %s answered one question at %s", f.Addr, strings.Join(f.Hosts, " and "), f.At.UTC().Format("15:04:05.000000"))
	}
}

// lookForAnswers looks at the answers for one address. w.mu must be locked.
func (w *watch) lookForAnswers(a *answers) {
	owned := w.lab.Wire.Owned(a.vip)
	now := time.Now()
	if len(owned) > 0 {
		news, ended := a.look(now, owned[len(owned)-1])
		if news != "" {
			w.lab.journal.note("wire", "%s", news)
		}
		if ended != nil {
			w.gaps = append(w.gaps, *ended)
		}
	}
	if a.overdue(now, w.grace) {
		w.violated("owner", "%s has had no owner for %v", a.vip, now.Sub(a.last).Round(time.Millisecond))
	}
}

func (w *watch) lookAtKernels() error {
	bound, err := w.lab.bound()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, vip := range allVIPs() {
		if !slices.Equal(bound[vip], w.bound[vip]) {
			w.lab.journal.note("kernels", "%s: bound on %v", vip, bound[vip])
		}
	}
	w.bound = bound
	return nil
}

// lookAtConsul looks for addresses that are bound without their lock. As long as Consul
// does not answer, no address needs an owner.
func (w *watch) lookAtConsul(ctx context.Context, o *orphans) {
	consul, err := w.lab.consulState(ctx)
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := err == nil; known != w.known {
		w.known = known
		w.lab.journal.note("consul", "has a quorum: %t (%v)", known, err)
	}
	if err != nil {
		w.grace.extend(now, ownerLimit)
		return
	}
	for _, vip := range allVIPs() {
		if holder := w.consul.locks[vip]; consul.locks[vip] != holder {
			w.lab.journal.note("consul", "%s: %q holds the lock, before it was %q", vip, consul.locks[vip], holder)
		}
	}
	if !maps.Equal(consul.members, w.consul.members) {
		w.lab.journal.note("consul", "members: %v", slices.Sorted(maps.Keys(consul.members)))
	}
	w.consul = consul
	for _, b := range o.look(now, w.bound, consul.locks) {
		w.violated("address without lock", "%s has been bound on %s for more than %v while %q holds the lock", b.vip, b.host, orphanLimit, consul.locks[b.vip])
	}
}

// settled returns an error unless every instance is a member and every address has one
// owner.
func (w *watch) settled() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.known {
		return errors.New("consul has no quorum")
	}
	for _, n := range w.lab.nodes {
		if n.instance.current() == nil {
			return fmt.Errorf("no instance runs on %s", n.Name)
		}
		if !w.consul.members[n.Name] {
			return fmt.Errorf("%s is no member", n.Name)
		}
	}
	for _, vip := range allVIPs() {
		a := w.answers[vip]
		switch bound := w.bound[vip]; {
		case a.silent:
			return fmt.Errorf("no host answers for %s", vip)
		case len(bound) != 1 || bound[0] != a.host:
			return fmt.Errorf("%s is bound on %v but %s answers", vip, bound, a.host)
		case w.consul.locks[vip] != a.host:
			return fmt.Errorf("%s answers for %s but %q holds the lock", a.host, vip, w.consul.locks[vip])
		}
	}
	return nil
}

// gapsSince returns the gaps that have ended since then, and those that go on. A gap
// begins with the last answer, which came before the event that ended the answers.
func (w *watch) gapsSince(then time.Time) []gap {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := slices.Clone(w.gaps)
	for _, a := range w.answers {
		if a.silent {
			found = append(found, gap{vip: a.vip, from: a.last, to: time.Now()})
		}
	}
	return slices.DeleteFunc(found, func(g gap) bool { return g.to.Before(then) })
}

// checkUsage compares how much the running instances use with how much they used when
// this method first saw them. Call it when everything has settled.
func (w *watch) checkUsage() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.lab.nodes {
		p := n.instance.current()
		if p == nil || len(p.Logged("session created")) == 0 {
			continue // it does not yet use all that it needs
		}
		now, err := usageOf(p.PID())
		if err != nil {
			continue // it has ended in the meantime
		}
		then, ok := w.used[p.PID()]
		if !ok {
			w.used[p.PID()] = now
			continue
		}
		if found := now.exceeds(then); len(found) > 0 {
			w.violated("growth", "process %d on %s: %s", p.PID(), n.Name, strings.Join(found, ", "))
			w.used[p.PID()] = now
		}
	}
}
