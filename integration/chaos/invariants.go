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
	// deathLimit is the same after a host's death. Serf notices it within some
	// 6 s; if not, the session ends at twice its TTL after the last renewal,
	// 20 s, and the successor needs a moment.
	deathLimit = 25 * time.Second
	// orphanLimit is how long an address may be bound without its lock.
	orphanLimit = 6 * time.Second
	// silence is how long an address has to go unanswered to have no owner: one
	// lost question is none.
	silence = 50 * time.Millisecond
	// doubleApart is how long after a question with two answers another one
	// counts as the same violation.
	doubleApart = 2 * time.Second
)

// clock says until when an address may be without an owner. It is safe for
// concurrent use.
type clock struct {
	mu       sync.Mutex
	deadline time.Time
}

// event allows for limit from now on.
func (c *clock) event(now time.Time, limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := now.Add(limit); d.After(c.deadline) {
		c.deadline = d
	}
}

// overdue says if an address that has no owner since then should have one now.
func (c *clock) overdue(since, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.After(c.deadline) && now.Sub(since) > ownerLimit
}

// gap is a time during which nobody answered for an address.
type gap struct {
	vip      netip.Addr
	from, to time.Time
}

func (g gap) length() time.Duration { return g.to.Sub(g.from) }

// answers follows who answers for one address. Not safe for concurrent use.
type answers struct {
	vip    netip.Addr
	host   string // who answered last
	last   time.Time
	silent bool
	blamed bool
}

// look takes the observer's newest reign as of now. It returns what is new to
// tell, and the gap that has ended, if one has.
func (a *answers) look(now time.Time, r lab.Reign) (news string, ended *gap) {
	switch {
	case r.Last.After(a.last) && a.silent:
		ended = &gap{vip: a.vip, from: a.last, to: r.Last}
		news = fmt.Sprintf("%s: answered by %s again, after %v (last by %s)", a.vip, r.Host, ended.length().Round(time.Millisecond), a.host)
		a.silent, a.blamed = false, false
	case r.Last.After(a.last) && r.Host != a.host:
		news = fmt.Sprintf("%s: answered by %s, %v after the last answer of %s", a.vip, r.Host, r.First.Sub(a.last).Round(100*time.Microsecond), a.host)
	case !a.silent && now.Sub(a.last) > silence:
		a.silent = true
		news = fmt.Sprintf("%s: nobody answers since %s (last by %s)", a.vip, a.last.UTC().Format("15:04:05.000"), a.host)
	}
	if r.Last.After(a.last) {
		a.last, a.host = r.Last, r.Host
	}
	return news, ended
}

// overdue says once for each gap that it has lasted too long.
func (a *answers) overdue(now time.Time, c *clock) bool {
	if !a.silent || a.blamed || !c.overdue(a.last, now) {
		return false
	}
	a.blamed = true
	return true
}

// doubles finds the new ones among the questions with two answers, and makes
// those that follow each other closely one. Not safe for concurrent use.
type doubles struct {
	seen int
	last map[netip.Addr]time.Time
}

// look takes all questions with two answers so far. It returns the new ones,
// and those among them that begin something new.
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

// place is an address on a host.
type place struct {
	vip  netip.Addr
	host string
}

// orphans follows the addresses that are bound without the lock. Not safe for
// concurrent use.
type orphans struct {
	since  map[place]time.Time
	blamed map[place]bool
}

// look takes who has bound what, and who has which lock. It returns those bound
// without the lock for too long, each once. Do not call it while nobody knows
// who has the locks.
func (o *orphans) look(now time.Time, bound map[netip.Addr][]string, locks map[netip.Addr]string) []place {
	since, blamed := make(map[place]time.Time), make(map[place]bool)
	var found []place
	for vip, hosts := range bound {
		for _, h := range hosts {
			p := place{vip, h}
			if locks[vip] == h {
				continue
			}
			began, ok := o.since[p]
			if !ok {
				began = now
			}
			since[p], blamed[p] = began, o.blamed[p]
			if now.Sub(began) > orphanLimit && !blamed[p] {
				blamed[p] = true
				found = append(found, p)
			}
		}
	}
	o.since, o.blamed = since, blamed
	slices.SortFunc(found, func(a, b place) int { return strings.Compare(a.vip.String()+a.host, b.vip.String()+b.host) })
	return found
}

// usage is what a process uses.
type usage struct {
	fds, threads int
	rss          int // bytes
}

// What a process may use more than when it had settled for the first time.
var growth = usage{fds: 8, threads: 12, rss: 64 << 20}

// exceeds returns what has grown too much since then.
func (u usage) exceeds(then usage) []string {
	var found []string
	check := func(what string, now, then, more int) {
		if now > then+more {
			found = append(found, fmt.Sprintf("%s: %d, were %d", what, now, then))
		}
	}
	check("descriptors", u.fds, then.fds, growth.fds)
	check("threads", u.threads, then.threads, growth.threads)
	check("resident bytes", u.rss, then.rss, growth.rss)
	return found
}
