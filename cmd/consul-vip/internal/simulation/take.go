package simulation

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// hearsWithin is how long a process may take to hear that a lock was taken from it,
	// once its host is connected again.
	hearsWithin = 2 * time.Second

	// missedBefore is how long before a take its victim may have been heard again: for
	// as long as the one transaction that takes the lock may last, and a bit more.
	missedBefore = time.Second
)

// take is a lock that another member has taken because its owner's host did not answer.
// Until the owner's process has heard of it both hosts may answer for the address. The
// network's mutex guards it.
type take struct {
	victim *host
	addr   netip.Addr
	back   time.Duration // since when the victim is connected again; 0: it is not
	end    func()        // of the excuse
}

// took is called for each change of a lock.
func (c *cluster) took(change simconsul.Change) {
	if change.Old == nil || change.New == nil || change.Old.Session == "" || change.New.Session == "" || change.Old.Session == change.New.Session {
		return
	}
	var from struct {
		TookFrom string `json:"took_from"`
	}
	_ = json.Unmarshal(change.New.Value, &from)
	victim, taker := c.named(from.TookFrom), c.named(state.ParseRecord(change.New.Value).Node)
	i := slices.IndexFunc(c.addrs, func(a netip.Addr) bool { return c.keys.Lock(a.String()) == change.Key })
	if victim == nil || taker == nil || i < 0 {
		return
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.net.client.count["taken"]++
	end := c.net.excuse(excuse{name: "taken from while away", host: victim.name, addr: c.addrs[i], limit: c.unheard()})
	c.takes = append(c.takes, &take{victim: victim, addr: c.addrs[i], end: end})
	if !c.late() && !c.net.missed(taker.kernel, victim.kernel, missedBefore) {
		c.violate("%s has taken %s from %s, which it could hear", taker.name, c.addrs[i], victim.name)
	}
}

// checkTakes checks that a victim that is back gives up what was taken from it.
func (c *cluster) checkTakes() {
	connected := map[*host]bool{}
	for _, h := range c.hosts {
		connected[h] = c.connected(h)
	}
	now := c.log.elapsed()
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.takes = slices.DeleteFunc(c.takes, func(t *take) bool {
		switch {
		case !connected[t.victim]:
			t.back = 0
		case t.back == 0:
			t.back = now
		case now-t.back > hearsWithin:
			t.end()
			if o := c.net.client.overlaps[t.addr]; o != nil && slices.Contains(o.owners, t.victim.kernel) {
				c.violate("%s has been back for %s, and still answers for %s, which was taken from it", t.victim.name, hearsWithin, t.addr)
			}
			return true
		}
		return false
	})
}

// connected reports whether a host's process runs, and hears Consul and the segment.
func (c *cluster) connected(h *host) bool {
	c.mu.Lock()
	runs := h.process != nil && !h.standing && !h.powerless && !h.process.gate.isClosed()
	c.mu.Unlock()
	if !runs || c.late() || !c.consul.Leader() || !h.consul.Connected() {
		return false
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	k := h.kernel
	return k.listening() && k.egress == egressSent && k.held == nil && k.slow == 0 && c.net.segment.whole()
}
