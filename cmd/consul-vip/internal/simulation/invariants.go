package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// settleStep is how often it is looked whether the cluster has settled.
	settleStep = 100 * time.Millisecond

	// settledFor is how long it has to stay so.
	settledFor = 1500 * time.Millisecond

	// stopWithin is how long a stop may take: 4 s, what a late timer adds, the hooks before the
	// release, and twice as long for those after it.
	stopWithin = 4*time.Second + 100*time.Millisecond + 3*hookTimeout
)

// violations are the invariants that did not hold. They are safe for concurrent use.
type violations struct {
	mu    sync.Mutex // guards all following fields
	texts []string
}

func (v *violations) add(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.texts) < 5 {
		v.texts = append(v.texts, fmt.Sprintf(format, args...))
	}
}

func (v *violations) any() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.texts) > 0
}

func (v *violations) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(v.texts, "\n")
}

// violate records a violation, and the log gets it too.
func (c *cluster) violate(format string, args ...any) {
	c.log.add("VIOLATED", format, args...)
	c.failures.add(format, args...)
}

// settleLimit is how long after the last fault every address has an owner again: the
// servers end a session at twice its TTL, a scheduler starts a process again, and a
// node that found nobody to ask waits a moment.
func (c *cluster) settleLimit() time.Duration {
	limit := 2*c.base.Consul.SessionTTL + 10*time.Second
	if c.contested() {
		limit += time.Minute
	}
	for _, v := range c.base.VIPs {
		if v.Takeover == "strict" {
			return limit + 30*time.Second
		}
	}
	return limit
}

// contested reports whether an address was contested in the last ten minutes: the next
// time, its back-off is longer.
func (c *cluster) contested() bool {
	for _, addr := range c.addrs {
		if c.ledger.lock(c.keys.Lock(addr.String())).Record.Contested != nil {
			return true
		}
	}
	return false
}

// settle waits until the cluster is as it should be without a fault.
func (c *cluster) settle(round []fault, before map[netip.Addr]int) {
	c.setCalm(true)
	began, since := time.Now(), time.Time{}
	for !c.failures.any() {
		wrong := c.wrong()
		switch {
		case wrong != "":
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= settledFor:
			stats.settled(since.Sub(began), c.settleLimit())
			unasked := c.checkExits(round)
			c.checkOthers(round, before, unasked)
			c.checkBearable(round, before, unasked)
			return
		}
		if wrong != "" && time.Since(began) > c.settleLimit() {
			c.violate("%s after the last fault: %s", c.settleLimit(), wrong)
			return
		}
		c.check()
		time.Sleep(settleStep)
	}
}

// wrong says what is not as it should be, or nothing.
func (c *cluster) wrong() string {
	members := map[string]bool{}
	for _, h := range c.hosts {
		pair := c.consul.Get(c.keys.Member(h.name))
		c.mu.Lock()
		p := h.process
		c.mu.Unlock()
		switch {
		case p == nil || p.gate.ctx.Err() != nil || p.stopped != 0:
			return h.name + " runs no instance"
		case pair == nil || pair.Session == "":
			return h.name + " is no member"
		}
		var m state.Member
		_ = json.Unmarshal(pair.Value, &m)
		if len(m.VIPs) != len(h.config.VIPs) {
			return fmt.Sprintf("%s is a member for %d addresses", h.name, len(m.VIPs))
		}
		members[pair.Session] = true
	}
	for _, addr := range c.addrs {
		if wrong := c.wrongOwner(addr, members); wrong != "" {
			return wrong
		}
	}
	return ""
}

// wrongOwner says what is wrong with an address, or nothing.
func (c *cluster) wrongOwner(addr netip.Addr, members map[string]bool) string {
	c.net.mu.Lock()
	owners := names(c.net.client.owners(addr))
	c.net.mu.Unlock()
	lock := c.ledger.lock(c.keys.Lock(addr.String()))
	switch {
	case owners == "":
		return fmt.Sprintf("nobody answers for %s", addr)
	case lock.Session == "" || !members[lock.Session]:
		return fmt.Sprintf("no member holds the lock of %s", addr)
	}
	record := lock.Record
	serving := record.State == state.RecordHeld || record.State == state.RecordHandover // after a restored snapshot
	if !serving || record.Node != owners {
		return fmt.Sprintf("%s answers for %s, but the record is of %s: %q", owners, addr, record.Node, record.State)
	}
	return ""
}

// ledger is what Consul's locks say. It is safe for concurrent use.
type ledger struct {
	log     *journal
	changes occasions[simconsul.Change]
	judge   func(simconsul.Change)

	mu    sync.Mutex // guards all following fields
	locks map[string]state.Lock
}

// changed is called for each change of a key.
func (l *ledger) changed(change simconsul.Change) {
	lock := state.Lock{}
	value := ""
	if change.New != nil {
		lock, value = state.NewLock(change.New), string(change.New.Value)
	}
	l.log.add("consul", "%d %s: session %q, %s (%s)", change.Index, change.Key, lock.Session, value, change.Reason)
	l.changes.happens(change)
	l.judge(change)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.locks[change.Key] = lock
}

func (l *ledger) lock(key string) state.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locks[key]
}

// check checks what must hold at any time.
func (c *cluster) check() {
	c.checkUnlocked()
	c.checkTakes()
	c.checkDeath()
}

// checkUnlocked checks that no address is bound for long without its lock.
func (c *cluster) checkUnlocked() {
	limit := c.base.Consul.SessionTTL + latestRemoval
	for _, addr := range c.addrs {
		owner := ""
		if lock := c.ledger.lock(c.keys.Lock(addr.String())); lock.Session != "" {
			owner = lock.Record.Node
		}
		c.net.mu.Lock()
		for _, k := range c.net.kernels {
			a := k.addresses[addr]
			now := c.log.elapsed()
			switch {
			case a == nil || !a.ours || k.name == owner || k.still != nil:
				if a != nil {
					a.unlocked = 0
				}
			case a.unlocked == 0:
				a.unlocked = now
			case now-a.unlocked > limit:
				c.violate("%s has %s for %s, and its lock belongs to %q", k.name, addr, limit, owner)
			}
		}
		c.net.mu.Unlock()
	}
}

// exited records the end of a process. The mutex is held.
func (c *cluster) exited(p *process, code int, err error) {
	now := c.log.elapsed()
	c.exits = append(c.exits, exit{now, p, code, err})
	c.judgeConflict(p, err)
	if code == exitStopped && p.stopped != 0 && !p.hindered && now-p.stopped > stopWithin {
		c.violate("%s took %s to stop", p.name, now-p.stopped)
	}
}

// checkExits checks the exit codes of a round: each must be one that a recent fault
// explains. It returns how many instances ended by themselves.
func (c *cluster) checkExits(round []fault) (unasked int) {
	c.mu.Lock()
	exits := c.exits
	c.exits = nil
	c.mu.Unlock()
	allowed := []int{exitKilled}
	for _, f := range c.felt(round) {
		allowed = append(allowed, f.kind.exits...)
	}
	for _, e := range exits {
		switch {
		case e.code == exitStopped && e.process.stopped != 0, e.code == exitKilled:
			continue
		case !slices.Contains(allowed, e.code):
			c.violate("%s ended with %d, which no recent fault explains: %v", e.process.name, e.code, e.err)
		}
		unasked++
	}
	return unasked
}

// checkOthers checks a round whose faults all concern one address: processes end only as
// often as those faults explain, and if none ends, no other address moves.
func (c *cluster) checkOthers(round []fault, before map[netip.Addr]int, exits int) {
	if len(round) == 0 || slices.ContainsFunc(round, func(f fault) bool { return !f.kind.address }) {
		return
	}
	explained := 0
	if c.roundBegan < c.otherUntil {
		return // what the round before has broken may still have an effect
	}
	for _, f := range round {
		if f.addr != round[0].addr {
			return
		}
		explained += f.kind.ends
	}
	if exits > explained {
		c.violate("%d instances ended because of one address, of which its faults explain %d", exits, explained)
	}
	moves := c.moves()
	for i, v := range c.base.VIPs {
		if exits == 0 && i != round[0].addr && v.PreemptDelay == 0 && moves[v.Addr()] != before[v.Addr()] {
			c.violate("%s moved because of another address", v.Addr())
		}
	}
}

// checkBearable checks that a short fault has ended no instance and moved no address.
func (c *cluster) checkBearable(round []fault, before map[netip.Addr]int, exits int) {
	if c.theme != bearableFaults || len(round) == 0 {
		return
	}
	if exits > 0 {
		c.violate("%d instances ended because of a short fault", exits)
	}
	moves := c.moves()
	for _, v := range c.base.VIPs {
		if v.PreemptDelay == 0 && moves[v.Addr()] != before[v.Addr()] {
			c.violate("%s moved because of a short fault", v.Addr())
		}
	}
}

// moves is how often each address has moved.
func (c *cluster) moves() map[netip.Addr]int {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return maps.Clone(c.net.client.moves)
}

// checkStopped checks that nothing is left of stopped instances.
func (c *cluster) checkStopped() {
	c.net.mu.Lock()
	for _, k := range c.net.kernels {
		for addr, a := range k.addresses {
			if a.ours {
				c.violate("%s still has %s after all instances have stopped", k.name, addr)
			}
		}
	}
	c.net.mu.Unlock()
	held := c.heldKeys()
	if len(held) > 0 {
		// An instance that could not clean up, because Consul had no leader, may have been
		// the last one of its host. Consul ends its session after twice the TTL at most.
		time.Sleep(2*c.base.Consul.SessionTTL + time.Second)
		held = c.heldKeys()
	}
	for _, key := range held {
		c.violate("a session holds %s after all instances have stopped", key)
	}
}

// heldKeys are the keys that a session holds.
func (c *cluster) heldKeys() (keys []string) {
	for _, pair := range c.consul.List(c.keys.Folder()) {
		if pair.Session != "" {
			keys = append(keys, pair.Key)
		}
	}
	return keys
}
