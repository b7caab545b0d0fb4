package simulation

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// hearsWithin is how long a process may take to hear that a lock was taken from it,
	// once its host is connected again.
	hearsWithin = 2 * time.Second

	// knownWithin is how long after a take all members know of it.
	knownWithin = time.Second

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
	vip       config.VIP
	victim    *host
	successor *host
	from      string // the victim's session
	at        time.Duration
	back      time.Duration // since when the victim is connected again; 0: it is not
	wrote     bool          // the victim has written its member key since
	end       func()        // of the excuse
}

// takes are those of a cluster. The network's mutex guards them.
type takes struct {
	felt    []*take                  // whose victim may not have heard of it
	last    map[netip.Addr]*take     // the present owner's
	victims map[string]time.Duration // when a lock was last taken from a session
}

func newTakes() takes {
	return takes{last: map[netip.Addr]*take{}, victims: map[string]time.Duration{}}
}

// changed is called for each change of a key.
func (c *cluster) changed(change simconsul.Change) {
	c.noteMember(change)
	i := slices.IndexFunc(c.base.VIPs, func(v config.VIP) bool { return c.keys.Lock(v.Addr().String()) == change.Key })
	if i < 0 || change.Old == nil || change.New == nil {
		return
	}
	v := c.base.VIPs[i]
	before, after := state.ParseRecord(change.Old.Value), state.ParseRecord(change.New.Value)
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.judgeContested(v, before, after)
	if change.New.Session != "" && change.Old.Session != change.New.Session {
		c.judgeTransfer(v, after)
	}
	if t := c.takes.last[v.Addr()]; t != nil && t.from == after.Session {
		delete(c.takes.victims, t.from) // it may never have seen that it had lost the lock
	}
	if tookFrom(change.New) == "" {
		delete(c.takes.last, v.Addr()) // it has another owner
	}
	// In a take the key is unlocked for the victim's session and locked for the
	// successor's, both with the successor's record.
	victim, successor := c.named(tookFrom(change.New)), c.named(after.Node)
	taken := change.Old.Session != "" && change.Old.Session != change.New.Session
	if !taken || victim == nil || successor == nil || victim.name != before.Node || victim == successor {
		return
	}
	c.took(&take{vip: v, victim: victim, successor: successor, from: change.Old.Session, at: c.log.elapsed()}, after.Session)
}

// took judges and notes a take by a session.
func (c *cluster) took(t *take, by string) {
	c.judgeTake(t, by)
	t.end = c.net.excuse(excuse{name: "taken from while away", host: t.victim.name, addr: t.vip.Addr(), limit: c.unheard()})
	c.takes.felt = append(c.takes.felt, t)
	c.takes.last[t.vip.Addr()], c.takes.victims[t.from] = t, t.at
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

// judgeTake checks that a lock may be taken by a session.
func (c *cluster) judgeTake(t *take, by string) {
	addr, successor, victim := t.vip.Addr(), t.successor.name, t.victim.name
	last := c.takes.last[addr]
	setBack, isVictim := c.takes.victims[by]
	switch {
	case t.vip.Takeover == config.TakeoverStrict:
		c.violate("%s has taken %s, which is strict, from %s", successor, addr, victim)
	case c.late():
	case !c.net.missed(t.successor.kernel, t.victim.kernel, missedBefore):
		c.violate("%s has taken %s from %s, which it could hear", successor, addr, victim)
	case last != nil && t.at-last.at < safeFor:
		c.violate("%s has taken %s from %s, which had taken it %s before", successor, addr, victim, t.at-last.at)
	case isVictim && t.at-setBack > hearsWithin && t.at-setBack < setBackFor:
		c.violate("%s has taken %s %s after a lock was taken from it", successor, addr, t.at-setBack)
	}
}

// judgeContested checks that its successor does not count a victim as a stranger as long
// as its kernel may have the address.
func (c *cluster) judgeContested(v config.VIP, before, after state.Record) {
	t := c.takes.last[v.Addr()]
	if t == nil || after.Contested == nil || before.Contested != nil || c.log.elapsed()-t.at > v.DeadMan {
		return
	}
	isNew := after.Contested.At.After(c.log.start.Add(t.at).Truncate(time.Second).Add(-1))
	a := t.victim.kernel.addresses[v.Addr()]
	if isNew && after.Contested.MAC == t.victim.kernel.mac.String() && (a == nil || a.ours) {
		c.violate("%s, from which %s was taken, counts as a stranger", t.victim.name, v.Addr())
	}
}

// noteMember notes that the victim of a take has written its member key.
func (c *cluster) noteMember(change simconsul.Change) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for _, t := range c.takes.felt {
		if change.Key == c.keys.Member(t.victim.name) {
			t.wrote = true
		}
	}
}

// judgeTransfer checks that no lock is transferred to a host that has just counted as
// dead, and has not been heard since.
func (c *cluster) judgeTransfer(v config.VIP, after state.Record) {
	if after.State != state.RecordHandover || c.late() {
		return
	}
	for _, t := range c.takes.felt {
		silent := t.back == 0 && !t.wrote && !t.victim.kernel.listening()
		if t.victim.name == after.Node && silent && c.log.elapsed()-t.at > knownWithin {
			c.violate("%s was transferred to %s, whose host is dead", v.Addr(), after.Node)
		}
	}
}

// judgeConflict checks the end of a process: a victim does not end because its successor
// claims the address.
func (c *cluster) judgeConflict(p *process, err error) {
	var conflict *agent.ConflictError
	if !errors.As(err, &conflict) {
		return
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	t := c.takes.last[conflict.Addr]
	if t != nil && t.victim == p.host && mac(conflict.MAC) == t.successor.kernel.mac && c.log.elapsed()-t.at < setBackFor {
		c.violate("%s ended because of a claim of %s, which had taken %s from it", p.name, t.successor.name, conflict.Addr)
	}
}

// judgeBind checks two owners of an address of which one has just bound it. It must not
// do so unasked if it can hear the other one again, from which it has taken the lock.
func (c *cluster) judgeBind(o *overlap) {
	now := c.log.elapsed()
	for _, t := range c.takes.felt {
		successor, victim := t.successor.kernel, t.victim.kernel
		a, s := successor.addresses[o.addr], c.net.sights[[2]*kernel{successor, victim}]
		if b := victim.addresses[o.addr]; b == nil || !b.ours {
			continue // it is another program's
		}
		if c.takes.last[o.addr] != t || now-t.at > setBackFor || a == nil || a.added != now || !slices.Contains(o.owners, victim) || !slices.Contains(o.owners, successor) {
			continue
		}
		back := now - s.last
		heard := !s.dead && back > 2*t.vip.HostCheck.Interval+undoTime && c.net.segment.noise == 0
		if heard && !c.net.requestIsLate(successor) {
			c.violate("%s has bound %s, and has heard %s for %s, from which it was taken", successor.name, o.addr, victim.name, back)
		}
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
			o, a := c.net.client.overlaps[t.vip.Addr()], t.victim.kernel.addresses[t.vip.Addr()]
			again := c.ledger.lock(c.keys.Lock(t.vip.Addr().String())).Record.Node == t.victim.name
			if o != nil && slices.Contains(o.owners, t.victim.kernel) && a.ours && !again {
				c.violate("%s has been back for %s, and still answers for %s, which was taken from it", t.victim.name, hearsWithin, t.vip.Addr())
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
