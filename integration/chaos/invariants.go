package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// ownerLimit is how long an address may have no owner after the last fault.
	ownerLimit = 15 * time.Second
	// deathLimit is the same after a host's death. Serf notices it after some 6 s; if
	// not, the session ends at most twice its TTL, 20 s, after the last renewal, and
	// the successor takes a moment.
	deathLimit = 25 * time.Second
	// contestLimit is the same after a stranger has claimed the address. All instances
	// leave it alone for at most a minute after each try.
	contestLimit = 75 * time.Second
	// orphanLimit is how long an address may be bound without its lock. The kernel of an
	// owner that dies or is cut off keeps it for dead_man, 8 s here, and removes it up to a
	// second late; the lock may be taken a quarter of a second after the death.
	orphanLimit = 10 * time.Second
	// silence is how long an address must not answer to count as without an owner,
	// which one lost question does not prove.
	silence = 50 * time.Millisecond
	// doubleApart is how long after a question with two answers another one counts as
	// the same violation.
	doubleApart = 2 * time.Second
)

// grace is the time until which addresses may have no owner. It is safe for concurrent
// use.
type grace struct {
	mu       sync.Mutex // guards all following fields
	deadline time.Time
	one      map[netip.Addr]time.Time // the deadline of one address, if it is later
}

// extend makes the time end at least limit from now.
func (g *grace) extend(now time.Time, limit time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := now.Add(limit); d.After(g.deadline) {
		g.deadline = d
	}
}

// extendOne is extend for one address.
func (g *grace) extendOne(vip netip.Addr, now time.Time, limit time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.one == nil {
		g.one = make(map[netip.Addr]time.Time)
	}
	if d := now.Add(limit); d.After(g.one[vip]) {
		g.one[vip] = d
	}
}

// overdue reports whether an address that has had no owner since then must have one now.
func (g *grace) overdue(vip netip.Addr, since, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return now.After(g.deadline) && now.After(g.one[vip]) && now.Sub(since) > ownerLimit
}

// gap is a time in which no host answered for an address.
type gap struct {
	vip      netip.Addr
	from, to time.Time
}

func (g gap) length() time.Duration { return g.to.Sub(g.from) }

// String returns the gap's length and its address.
func (g gap) String() string {
	if g.length() == 0 {
		return "below " + silence.String()
	}
	return fmt.Sprintf("%.2f s (%s)", g.length().Seconds(), g.vip)
}

// longestOf returns the longest of some gaps, or the zero gap.
func longestOf(gaps []gap) gap {
	var longest gap
	for _, g := range gaps {
		if g.length() > longest.length() {
			longest = g
		}
	}
	return longest
}

// answers follows which host answers for one address. Not safe for concurrent use.
type answers struct {
	vip      netip.Addr
	host     string    // of the last answer
	last     time.Time // when it came
	silent   bool
	reported bool // that the gap is too long
}

// look takes the observer's newest period as of now. It returns what has changed, and
// the gap that has ended, if one has.
func (a *answers) look(now time.Time, r lab.Reign) (news string, ended *gap) {
	answered := r.Last.After(a.last)
	switch {
	case answered && a.silent:
		ended = &gap{vip: a.vip, from: a.last, to: r.Last}
		news = fmt.Sprintf("%s: %s answers, %v after the last answer, by %s", a.vip, r.Host, ended.length().Round(time.Millisecond), a.host)
		a.silent, a.reported = false, false
	case answered && r.Host != a.host:
		news = fmt.Sprintf("%s: %s answers, %v after the last answer of %s", a.vip, r.Host, r.First.Sub(a.last).Round(100*time.Microsecond), a.host)
	case !a.silent && now.Sub(a.last) > silence:
		a.silent = true
		news = fmt.Sprintf("%s: no host answers since %s; the last was %s", a.vip, a.last.UTC().Format("15:04:05.000"), a.host)
	}
	if answered {
		a.last, a.host = r.Last, r.Host
	}
	return news, ended
}

// overdue reports once for each gap that it has lasted too long.
func (a *answers) overdue(now time.Time, g *grace) bool {
	if !a.silent || a.reported || !g.overdue(a.vip, a.last, now) {
		return false
	}
	a.reported = true
	return true
}

// doubles finds the new questions with two answers. Those that follow each other
// closely are one violation. Not safe for concurrent use.
type doubles struct {
	seen int
	last map[netip.Addr]time.Time
}

// look takes all questions with two answers so far. It returns the new ones, and those
// among them that begin a new violation.
func (d *doubles) look(all []lab.Double) (news, first []lab.Double) {
	if len(all) == d.seen {
		return nil, nil
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b lab.Double) int { return a.At.Compare(b.At) })
	news = all[d.seen:]
	d.seen = len(all)
	if d.last == nil {
		d.last = make(map[netip.Addr]time.Time)
	}
	for _, n := range news {
		if last, ok := d.last[n.Addr]; !ok || n.At.Sub(last) > doubleApart {
			first = append(first, n)
		}
		d.last[n.Addr] = n.At
	}
	return news, first
}

// binding is an address on a host.
type binding struct {
	vip  netip.Addr
	host string
}

// orphans follows the addresses that are bound without the lock. Not safe for
// concurrent use.
type orphans struct {
	since    map[binding]time.Time
	reported map[binding]bool
}

// look takes the hosts that have bound each address and the holders of the locks. It
// returns the addresses that have been bound without the lock for too long, each once.
// Do not call it while the holders are unknown.
func (o *orphans) look(now time.Time, bound map[netip.Addr][]string, locks map[netip.Addr]string) []binding {
	since, reported := make(map[binding]time.Time), make(map[binding]bool)
	var found []binding
	for vip, hosts := range bound {
		for _, h := range hosts {
			b := binding{vip, h}
			if locks[vip] == h {
				continue
			}
			began, ok := o.since[b]
			if !ok {
				began = now
			}
			since[b], reported[b] = began, o.reported[b]
			if now.Sub(began) > orphanLimit && !reported[b] {
				reported[b] = true
				found = append(found, b)
			}
		}
	}
	o.since, o.reported = since, reported
	slices.SortFunc(found, func(a, b binding) int { return strings.Compare(a.vip.String()+a.host, b.vip.String()+b.host) })
	return found
}
