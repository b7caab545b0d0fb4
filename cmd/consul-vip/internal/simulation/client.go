package simulation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// client is a station that hears everybody. Whenever an address may have another
// owner, it asks for the address, and everybody who has it answers: one question
// must never have two answers. The network's mutex guards it.
type client struct {
	net      *network
	overlaps map[netip.Addr]*overlap
	ended    map[netip.Addr]*overlap // the last one of each address
	count    map[string]int          // of the overlaps that README's Limits name, by name
	longest  map[string]time.Duration
	violated func(format string, args ...any)
	judge    func(*overlap)     // what no excuse explains
	moves    map[netip.Addr]int // how often an address got another owner
	last     map[netip.Addr]string
}

// overlap is a time in which an address has two owners.
type overlap struct {
	addr   netip.Addr
	owners []*kernel
	since  time.Duration
	until  time.Duration
	excuse *excuse
	timer  *time.Timer
}

func newClient(n *network) *client {
	return &client{net: n, overlaps: map[netip.Addr]*overlap{}, ended: map[netip.Addr]*overlap{}, count: map[string]int{}, longest: map[string]time.Duration{},
		moves: map[netip.Addr]int{}, last: map[netip.Addr]string{}}
}

// owners returns the hosts that answer for an address.
func (c *client) owners(addr netip.Addr) (owners []*kernel) {
	for _, k := range c.net.kernels {
		if k.answers(addr) {
			owners = append(owners, k)
		}
	}
	return owners
}

// lookAll asks for every address.
func (c *client) lookAll() {
	seen := map[netip.Addr]bool{}
	for _, k := range c.net.kernels {
		for addr := range k.addresses {
			if !seen[addr] {
				seen[addr] = true
				c.look(addr)
			}
		}
	}
	for addr := range c.overlaps {
		c.look(addr)
	}
}

// look asks for an address.
func (c *client) look(addr netip.Addr) {
	owners := c.owners(addr)
	if len(owners) == 1 && c.last[addr] != owners[0].name {
		c.last[addr] = owners[0].name
		c.moves[addr]++
	}
	if len(owners) > 0 {
		c.net.death.owned(addr, c.net.log.elapsed())
	}
	if c.net.strangers[addr] != nil && len(owners) > 0 {
		c.count["stranger"]++
	}
	before := c.overlaps[addr]
	switch {
	case before != nil && len(owners) < 2:
		c.end(before)
	case before == nil && len(owners) >= 2:
		c.begin(&overlap{addr: addr, owners: owners, since: c.net.log.elapsed()})
	}
}

func (c *client) begin(o *overlap) {
	c.overlaps[o.addr] = o
	c.net.log.add("client", "two owners of %s: %s", o.addr, names(o.owners))
	c.judge(o)
	o.excuse = c.net.excused(o)
	if last := c.ended[o.addr]; o.excuse == nil && last != nil && o.continues(last) {
		o.excuse = last.excuse
	}
	if o.excuse == nil {
		c.violated("two hosts answer for %s: %s", o.addr, names(o.owners))
		return
	}
	c.count[o.excuse.name]++
	o.timer = time.AfterFunc(o.excuse.limit, func() {
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		if c.overlaps[o.addr] == o {
			c.violated("two hosts answer for %s for %s: %s; excuse: %s", o.addr, o.excuse.limit, names(o.owners), o.excuse.name)
		}
	})
}

func (c *client) end(o *overlap) {
	delete(c.overlaps, o.addr)
	o.until = c.net.log.elapsed()
	c.ended[o.addr] = o
	lasted := o.until - o.since
	c.net.log.add("client", "one owner of %s again after %s", o.addr, lasted)
	if o.timer != nil {
		o.timer.Stop()
	}
	if o.excuse != nil {
		c.longest[o.excuse.name] = max(c.longest[o.excuse.name], lasted)
	}
}

// continues reports whether one of two owners has only handed the address over.
func (o *overlap) continues(last *overlap) bool {
	return o.since-last.until < undoTime && slices.ContainsFunc(o.owners, func(k *kernel) bool { return slices.Contains(last.owners, k) })
}

func names(kernels []*kernel) string {
	var names []string
	for _, k := range kernels {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// excuse is a reason for two owners that README's Limits, or the design, names.
type excuse struct {
	name  string
	host  string        // one of the owners; empty: any
	addr  netip.Addr    // invalid: any
	limit time.Duration // how long the two may last
	after time.Duration // how long it counts after its end: a takeover may have begun before

	since, until time.Duration
	lasting      bool // until is not known yet
}

// undoTime is how long an act that came too late may last before it is undone.
const undoTime = 20 * time.Millisecond

// excuse begins an excuse. The function that it returns ends it. Call both with the
// mutex held.
func (n *network) excuse(e excuse) (end func()) {
	e.since, e.lasting = n.log.elapsed(), true
	n.excuses = append(n.excuses, &e)
	return func() { e.until, e.lasting = n.log.elapsed(), false }
}

// lateRequest is the name of an excuse: the process cannot have looked at the clock in
// between.
const lateRequest = "late request"

// requestIsLate reports whether the request that the kernel carries out now is late.
func (n *network) requestIsLate(k *kernel) bool {
	return slices.ContainsFunc(n.excuses, func(e *excuse) bool {
		return e.name == lateRequest && e.host == k.name && e.until == n.log.elapsed()
	})
}

// excused returns the excuse for an overlap, or nil.
func (n *network) excused(o *overlap) *excuse {
	now := n.log.elapsed()
	var rest []*excuse
	var found *excuse
	for _, e := range n.excuses {
		if !e.lasting && e.until+e.after < now {
			continue
		}
		rest = append(rest, e)
		if e.explains(o) && (found == nil || e.limit > found.limit || e.limit == found.limit && e.addr.IsValid()) {
			found = e
		}
	}
	n.excuses = rest
	return found
}

func (e *excuse) explains(o *overlap) bool {
	if e.addr.IsValid() && e.addr != o.addr {
		return false
	}
	for _, k := range o.owners {
		if e.host == "" || e.host == k.name {
			return true
		}
	}
	return false
}

func (e *excuse) String() string { return fmt.Sprintf("%s %s %s", e.name, e.host, e.addr) }
