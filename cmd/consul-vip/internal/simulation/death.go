package simulation

import (
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/config"
)

// takeoverBound is how long after a host's death each of its addresses has another owner
// if everything else is well: serf needs 9 s at most.
const takeoverBound = 10500 * time.Millisecond

// death is the end of a host's power while everything else is well. The network's mutex
// guards it.
type death struct {
	host  *host
	at    time.Duration
	addrs map[netip.Addr]bool // without another owner
}

// dies notes which addresses a host has that is about to die. Call it with the network's
// mutex held.
func (c *cluster) dies(h *host) {
	d := &death{host: h, at: c.log.elapsed(), addrs: map[netip.Addr]bool{}}
	for _, v := range c.base.VIPs {
		owners := c.net.client.owners(v.Addr())
		if len(owners) == 1 && owners[0] == h.kernel && v.Takeover != config.TakeoverStrict {
			d.addrs[v.Addr()] = true
		}
	}
	c.net.death = d
}

// owned notes that an address has an owner.
func (d *death) owned(addr netip.Addr, now time.Duration) {
	if d != nil && d.addrs[addr] {
		delete(d.addrs, addr)
		stats.tookOver(now - d.at)
	}
}

// checkDeath checks that a dead host's addresses have other owners soon.
func (c *cluster) checkDeath() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	d := c.net.death
	if d == nil || c.log.elapsed()-d.at <= takeoverBound {
		return
	}
	for addr := range d.addrs {
		c.violate("nobody has taken %s over %s after the death of %s", addr, takeoverBound, d.host.name)
	}
	c.net.death = nil
}
