package simulation

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// hearsWithin is how long a process may take to hear that a lock was taken from it,
	// once its host is connected again.
	hearsWithin = 2 * time.Second

	// missedBefore is how long before a take its victim may have been heard again: for
	// as long as the transaction that takes the lock may have been under way, also to an
	// agent that was cut off meanwhile.
	missedBefore = 4 * time.Second

	// safeFor is how long after a take nobody takes the lock again, and setBackFor how
	// long its victim takes none, once it has heard of it.
	safeFor    = 5 * time.Second
	setBackFor = 10 * time.Second
)

// take is a lock that another member has taken because its owner's host did not answer.
// Until the owner's process has heard of it both hosts may answer for the address.
type take struct {
	victim *host
	addr   netip.Addr
	back   time.Duration // since when the victim is connected again; 0: it is not
	end    func()        // of the excuse
}

// takes are those of a cluster. The network's mutex guards them.
type takes struct {
	felt    []*take                      // whose victim may not have heard of it
	last    map[netip.Addr]time.Duration // of the present owner's
	victims map[string]time.Duration     // when a lock was last taken from a session
}

func newTakes() takes {
	return takes{last: map[netip.Addr]time.Duration{}, victims: map[string]time.Duration{}}
}

// took is called for each change of a key. In a take the key is unlocked for the victim's
// session and locked for the successor's, both with the successor's record.
func (c *cluster) took(change simconsul.Change) {
	if change.Old == nil || change.New == nil || change.Old.Session == "" || change.Old.Session == change.New.Session {
		return
	}
	before, after := state.ParseRecord(change.Old.Value), state.ParseRecord(change.New.Value)
	victim, successor := c.named(tookFrom(change.New)), c.named(after.Node)
	i := slices.IndexFunc(c.base.VIPs, func(v config.VIP) bool { return c.keys.Lock(v.Addr().String()) == change.Key })
	if victim == nil || successor == nil || victim.name != before.Node || victim == successor || i < 0 {
		return
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	v := c.base.VIPs[i]
	if tookFrom(change.Old) == "" {
		delete(c.takes.last, v.Addr())
	}
	c.judgeTake(v, victim, successor, after.Session)
	end := c.net.excuse(excuse{name: "taken from while away", host: victim.name, addr: v.Addr(), limit: c.unheard()})
	c.takes.felt = append(c.takes.felt, &take{victim: victim, addr: v.Addr(), end: end})
	c.takes.last[v.Addr()], c.takes.victims[change.Old.Session] = c.log.elapsed(), c.log.elapsed()
	stats.took()
}

// tookFrom returns the node from which a record says that the lock was taken, or nothing.
func tookFrom(lock *api.KVPair) string {
	var record struct {
		TookFrom string `json:"took_from"`
	}
	_ = json.Unmarshal(lock.Value, &record)
	return record.TookFrom
}

// judgeTake checks that a lock may be taken.
func (c *cluster) judgeTake(v config.VIP, victim, successor *host, session string) {
	now := c.log.elapsed()
	last, again := c.takes.last[v.Addr()]
	setBack, isVictim := c.takes.victims[session]
	switch {
	case v.Takeover == config.TakeoverStrict:
		c.violate("%s has taken %s, which is strict, from %s", successor.name, v.Addr(), victim.name)
	case c.late():
	case !c.net.missed(successor.kernel, victim.kernel, missedBefore):
		c.violate("%s has taken %s from %s, which it could hear", successor.name, v.Addr(), victim.name)
	case again && now-last < safeFor:
		c.violate("%s has taken %s from %s, which had taken it %s before", successor.name, v.Addr(), victim.name, now-last)
	case isVictim && now-setBack > hearsWithin && now-setBack < setBackFor:
		c.violate("%s has taken %s %s after a lock was taken from it", successor.name, v.Addr(), now-setBack)
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
	c.takes.felt = slices.DeleteFunc(c.takes.felt, func(t *take) bool {
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
