package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	wireEvery   = 10 * time.Millisecond
	kernelEvery = 50 * time.Millisecond
	consulEvery = 250 * time.Millisecond
)

// watch looks at the wire, the kernels and Consul all the time, notes what
// changes and blames what must not be. Its methods are safe for concurrent use.
type watch struct {
	world *world
	clock *clock
	blame func(invariant, format string, args ...any)

	mu      sync.Mutex
	answers map[netip.Addr]*answers
	gaps    []gap
	bound   map[netip.Addr][]string
	locks   map[netip.Addr]string // who holds it
	members map[string]bool
	known   bool // locks and members are as of now
	used    map[int]usage
}

func newWatch(w *world, c *clock, blame func(string, string, ...any)) *watch {
	wa := &watch{world: w, clock: c, blame: blame, answers: make(map[netip.Addr]*answers), used: make(map[int]usage)}
	for i := range vips {
		wa.answers[vipOf(i)] = &answers{vip: vipOf(i), last: time.Now()}
	}
	return wa
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) error {
	var looking sync.WaitGroup
	every := func(d time.Duration, look func() error) {
		looking.Go(func() {
			for sleep(ctx, d) {
				if err := look(); err != nil {
					w.world.journal.note("watch", "%v", err)
				}
			}
		})
	}
	var d doubles
	every(wireEvery, func() error { w.lookAtWire(&d); return nil })
	every(kernelEvery, w.lookAtKernels)
	var o orphans
	every(consulEvery, func() error { w.lookAtConsul(ctx, &o); return nil })
	looking.Wait()
	return nil
}

func (w *watch) lookAtWire(d *doubles) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range vips {
		a := w.answers[vipOf(i)]
		owned := w.world.witness.Owned(a.vip)
		now := time.Now()
		if len(owned) > 0 {
			news, ended := a.look(now, owned[len(owned)-1])
			if news != "" {
				w.world.journal.note("wire", "%s", news)
			}
			if ended != nil {
				w.gaps = append(w.gaps, *ended)
			}
		}
		if a.overdue(now, w.clock) {
			w.blame("owner", "%s has had no owner for %v", a.vip, now.Sub(a.last).Round(time.Millisecond))
		}
	}
	news, first := d.look(w.world.witness.Doubles())
	for _, n := range news {
		w.world.journal.noteAt(n.At, "wire", "%s: one question answered by %s", n.Addr, strings.Join(n.Hosts, " and "))
	}
	for _, f := range first {
		w.blame("two owners", "%s: one question answered by %s at %s", f.Addr, strings.Join(f.Hosts, " and "), f.At.UTC().Format("15:04:05.000000"))
	}
}

func (w *watch) lookAtKernels() error {
	bound, err := w.world.bound()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range vips {
		vip := vipOf(i)
		if !slices.Equal(bound[vip], w.bound[vip]) {
			w.world.journal.note("kernels", "%s: bound on %v", vip, bound[vip])
		}
	}
	w.bound = bound
	return nil
}

// lookAtConsul reads the locks. As long as nobody knows, no address needs an
// owner yet.
func (w *watch) lookAtConsul(ctx context.Context, o *orphans) {
	locks, members, err := w.world.holders(ctx)
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := err == nil; known != w.known {
		w.known = known
		w.world.journal.note("consul", "has a quorum: %t (%v)", known, err)
	}
	if err != nil {
		w.clock.event(now, ownerLimit)
		return
	}
	for i := range vips {
		if vip := vipOf(i); locks[vip] != w.locks[vip] {
			w.world.journal.note("consul", "%s: lock of %q, was of %q", vip, locks[vip], w.locks[vip])
		}
	}
	if !maps.Equal(members, w.members) {
		w.world.journal.note("consul", "members: %v", slices.Sorted(maps.Keys(members)))
	}
	w.locks, w.members = locks, members
	for _, p := range o.look(now, w.bound, locks) {
		w.blame("address without lock", "%s is bound on %s for more than %v; the lock is of %q", p.vip, p.host, orphanLimit, locks[p.vip])
	}
}

// holders reads who holds the locks and who is a member, from a leader that is
// sure to be one.
func (w *world) holders(ctx context.Context) (map[netip.Addr]string, map[string]bool, error) {
	var pairs api.KVPairs
	var sessions []*api.SessionEntry
	err := w.ask(ctx, func(ctx context.Context, c *api.Client) (err error) {
		consistent := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
		if pairs, _, err = c.KV().List(prefix+"/", consistent); err != nil {
			return err
		}
		sessions, _, err = c.Session().List(consistent)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	nodes := make(map[string]string)
	for _, s := range sessions {
		if nodes[s.ID] = s.Node; s.Name != "consul-vip" {
			nodes[s.ID] = s.Name + " on " + s.Node
		}
	}
	locks, members := make(map[netip.Addr]string), make(map[string]bool)
	for _, p := range pairs {
		parts := strings.Split(p.Key, "/")
		if len(parts) != 3 || p.Session == "" {
			continue
		}
		if vip, err := netip.ParseAddr(parts[1]); err == nil && parts[2] == ".lock" {
			locks[vip] = nodes[p.Session]
		}
		if parts[1] == ".members" {
			members[parts[2]] = true
		}
	}
	return locks, members, nil
}

// settled objects unless everything is as it should be.
func (w *watch) settled() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.known {
		return errors.New("no quorum in Consul")
	}
	for _, n := range w.world.nodes {
		if n.instance.current() == nil {
			return fmt.Errorf("no instance runs on %s", n.Name)
		}
		if !w.members[n.Name] {
			return fmt.Errorf("%s is no member", n.Name)
		}
	}
	for i := range vips {
		vip := vipOf(i)
		a := w.answers[vip]
		switch bound := w.bound[vip]; {
		case a.silent:
			return fmt.Errorf("nobody answers for %s", vip)
		case len(bound) != 1 || bound[0] != a.host:
			return fmt.Errorf("%s is bound on %v but answered by %s", vip, bound, a.host)
		case w.locks[vip] != a.host:
			return fmt.Errorf("%s is answered by %s but its lock is of %q", vip, a.host, w.locks[vip])
		}
	}
	return nil
}

// gapsSince returns the gaps that have ended since then, and those that go on. A
// gap counts from the last answer, which is from before what ended the answers.
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

// weigh compares what the running instances use with what they did when they
// were weighed first. Call it when everything has settled.
func (w *watch) weigh() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.world.nodes {
		p := n.instance.current()
		if p == nil || !strings.Contains(p.String(), "session created") {
			continue // it does not use yet what it needs
		}
		now, err := usageOf(p.PID())
		if err != nil {
			continue // it ended meanwhile
		}
		then, ok := w.used[p.PID()]
		if !ok {
			w.used[p.PID()] = now
			continue
		}
		if found := now.exceeds(then); len(found) > 0 {
			w.blame("growth", "process %d on %s: %s", p.PID(), n.Name, strings.Join(found, ", "))
			w.used[p.PID()] = now
		}
	}
}

// usageOf reads what a process uses.
func usageOf(pid int) (usage, error) {
	var u usage
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	u.fds = len(fds)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			u.rss = kib << 10
		}
		_, _ = fmt.Sscanf(line, "Threads: %d", &u.threads) // another line otherwise
	}
	return u, nil
}
