package simulation

import (
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// foundByConsul is how long after a host's death each of its addresses has another
	// owner if Consul has to find it and everything else is well: serf needs 9 s at most.
	foundByConsul = 10500 * time.Millisecond

	// takesWithin is how long it takes after the host check has found the death: for the
	// transaction, and for a proof if its answer is lost.
	takesWithin = time.Second

	// toBeChecked is how long it takes at most until the new owner of an address is checked;
	// a record says since when it is one to the second.
	toBeChecked = 2 * time.Second

	// mostDoubled is by how much a host may miss more that was found dead wrongly.
	mostDoubled = 4
)

// death is the end of a host's power while everything else is well. The network's mutex
// guards it.
type death struct {
	host  *host
	at    time.Duration
	addrs map[netip.Addr]time.Duration // without another owner, and when each must have one
}

// dies notes which addresses a host has that is about to die. Call it with the network's
// mutex held. setBack is whether a lock was taken from a process that runs.
func (c *cluster) dies(h *host, setBack bool) {
	d := &death{host: h, at: c.log.elapsed(), addrs: map[netip.Addr]time.Duration{}}
	for _, v := range c.base.VIPs {
		owners := c.net.client.owners(v.Addr())
		if len(owners) == 1 && owners[0] == h.kernel && v.Takeover != config.TakeoverStrict {
			d.addrs[v.Addr()] = d.at + c.takeoverBound(v, h, setBack)
		}
	}
	c.net.death = d
}

// takeoverBound is how long after a host's death an address has another owner. With three
// hosts there is always a witness for the host check. A process that has lost a lock to
// it takes none for up to ten minutes, and a contested address is left alone for a while.
func (c *cluster) takeoverBound(v config.VIP, h *host, setBack bool) time.Duration {
	lock := c.ledger.lock(c.keys.Lock(v.Addr().String()))
	if v.HostCheck.Misses == 0 || setBack || lock.Record.State != state.RecordHeld || lock.Record.Contested != nil {
		return foundByConsul
	}
	misses := v.HostCheck.Misses
	if c.net.everMissed(h.kernel) {
		misses *= mostDoubled
	}
	heard := time.Duration(misses)*v.HostCheck.Interval + toBeChecked
	if since := lock.Record.Since; since == nil || time.Since(*since) < heard {
		return foundByConsul // a host must have been heard as long since it owns the address
	}
	if c.net.segment.noise > 0 {
		misses *= 2 // the witness is not heard in some intervals, which are void
	}
	return min(foundByConsul, time.Duration(misses+1)*v.HostCheck.Interval+takesWithin)
}

// setBack reports whether a lock was ever taken from a process that runs.
func (c *cluster) setBack() bool {
	for _, h := range c.hosts {
		pair := c.consul.Get(c.keys.Member(h.name))
		if pair == nil {
			continue
		}
		c.net.mu.Lock()
		_, was := c.takes.victims[pair.Session]
		c.net.mu.Unlock()
		if was {
			return true
		}
	}
	return false
}

// owned notes that an address has an owner.
func (d *death) owned(addr netip.Addr, now time.Duration) {
	if d == nil {
		return
	}
	if until, dead := d.addrs[addr]; dead {
		delete(d.addrs, addr)
		stats.tookOver(now-d.at, until-d.at)
	}
}

// checkDeath checks that a dead host's addresses have other owners soon.
func (c *cluster) checkDeath() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	d := c.net.death
	if d == nil {
		return
	}
	for addr, until := range d.addrs {
		if c.log.elapsed() > until {
			c.violate("nobody has taken %s over %s after the death of %s", addr, until-d.at, d.host.name)
			delete(d.addrs, addr)
		}
	}
}
