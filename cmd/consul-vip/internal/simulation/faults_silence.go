package simulation

import (
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// silenceFaults are the faults of which other stations only see that a machine does not
// answer, or answers no more.
var silenceFaults = []kind{
	{name: "stall of a host", weight: 8, lengths: stalls, begin: hostStalls, bearable: shorterThanDead, exits: []int{exitLost, exitConflict}},
	{name: "stall of the switch", weight: 4, shortest: 2 * sec, longest: 2 * sec, begin: switchStalls, bearable: forEver, exits: []int{exitConflict}},
	{name: "router down", weight: 4, shortest: 100 * ms, longest: 40 * sec, begin: routerDown, bearable: forEver},
	{name: "own address unanswered", weight: 4, shortest: 100 * ms, longest: 40 * sec, begin: ownUnanswered, bearable: forEver},
	{name: "own address changed", weight: 2, shortest: 100 * ms, longest: 40 * sec, begin: ownChanged, bearable: forEver},
	{name: "back at the take", weight: 6, shortest: 2 * sec, longest: 5 * sec, begin: backAtTake, exits: []int{exitLost, exitConflict}},
	{name: "stall in turn", weight: 6, shortest: 2 * sec, longest: 5 * sec, begin: stallInTurn, exits: []int{exitLost, exitConflict}},
	{name: "crash in a transfer", weight: 4, shortest: 2 * sec, longest: 20 * sec, begin: crashInTransfer},
	{name: "crash in a proof", weight: 8, shortest: 2 * sec, longest: 20 * sec, begin: crashInProof},
	{name: "stall in a proof", weight: 4, shortest: 2 * sec, longest: 20 * sec, begin: stallInProof, exits: []int{exitConflict}},
}

// stalls are how long a host may stall: for less than others take it for dead, just as
// long, and longer.
var stalls = []time.Duration{50 * ms, 150 * ms, 400 * ms, 2 * sec}

// hostStalls drops the frames of a host in both directions. Its processes run on. On one
// network with Consul, its agent is cut off as well.
func hostStalls(c *cluster, f fault) func() {
	h, alone := c.at(f), f.draw%2 == 0
	var end func()
	c.locked(func() {
		end = c.excuseHost("host stalled", h.name)
		h.kernel.stall()
	})
	if !alone {
		h.consul.Cut(true)
	}
	return func() {
		c.locked(func() {
			h.kernel.recover()
			end()
		})
		if !alone {
			h.consul.Heal()
		}
	}
}

// switchStalls drops all frames. Nobody hears a router then, so silence proves nothing,
// and every address stays where it is.
func switchStalls(c *cluster, _ fault) func() {
	end := func() {}
	c.locked(func() {
		if c.net.gateway == nil {
			end = c.excuseHost("switch stalled", "")
		}
		c.net.segment.stalled = true
		c.net.look()
	})
	return func() {
		c.locked(func() {
			c.net.segment.stalled = false
			c.net.look()
			end()
		})
	}
}

// stallUntilTaken drops the frames of an owner's host until another member has taken the
// lock of an address, and reports whether that was so.
func (c *cluster) stallUntilTaken(owner *host, f fault) bool {
	taken := c.ledger.changes.watch(func(change simconsul.Change) bool {
		return change.Key == c.lockKey(f) && change.New != nil && tookFrom(change.New) == owner.name
	})
	defer taken.stop()
	var end func()
	c.locked(func() {
		end = c.excuseHost("host stalled", owner.name)
		owner.kernel.stall()
	})
	_, ok := taken.await(f.lasts)
	c.locked(func() {
		owner.kernel.recover()
		end()
	})
	return ok
}

// backAtTake kills the owner's process, and drops the frames of its host until its lock
// has been taken. The answer to that comes only when the host may be heard again, whose
// kernel still has the address.
func backAtTake(c *cluster, f fault) func() {
	owner := c.ownerOf(c.addrs[f.addr])
	if owner == nil {
		return nil
	}
	undelayed := c.delayAnswers(time.Duration(1+f.rand().IntN(6)) * 50 * ms)
	c.mu.Lock()
	owner.kill()
	c.mu.Unlock()
	c.stallUntilTaken(owner, f)
	return undelayed
}

// stallInTurn drops the frames of an owner's host until its lock has been taken, and some
// seconds later those of the next one.
func stallInTurn(c *cluster, f fault) func() {
	draw := f.rand()
	for range 2 {
		owner := c.ownerOf(c.addrs[f.addr])
		if owner == nil || !c.stallUntilTaken(owner, f) {
			return nil
		}
		time.Sleep(safeFor + time.Duration(draw.Int64N(int64(4*sec))))
	}
	return nil
}

// delayAnswers delays Consul's answers to all transactions.
func (c *cluster) delayAnswers(by time.Duration) (undo func()) {
	set := func(fate func(simconsul.Request) simconsul.Fate) {
		for _, h := range c.hosts {
			h.consul.SetFate(fate)
		}
	}
	set(func(r simconsul.Request) (fate simconsul.Fate) {
		if r.Path == "/v1/txn" {
			fate.AnswerDelay = by
		}
		return fate
	})
	return func() { set(nil) }
}

func routerDown(c *cluster, _ fault) func() {
	set := func(on bool) {
		if g := c.net.gateway; g != nil {
			c.locked(func() {
				g.on = on
				c.net.look()
			})
		}
	}
	set(false)
	return func() { set(true) }
}

func ownUnanswered(c *cluster, f fault) func() {
	set := func(mute bool) { c.locked(func() { c.at(f).kernel.mute = mute }) }
	set(true)
	return func() { set(false) }
}

// ownChanged gives a host other addresses of its own. The router keeps its own.
func ownChanged(c *cluster, f fault) func() {
	k := c.at(f).kernel
	before := k.own
	if before == c.net.router {
		return nil
	}
	set := func(own ownAddrs) {
		c.locked(func() {
			k.own = own
			k.report(event{identity: true})
		})
	}
	set(newOwnAddrs(byte(31 + f.host)))
	return func() { set(before) }
}

// crashInTransfer moves an address, and lets the owner or the successor die while the
// successor waits for the address.
func crashInTransfer(c *cluster, f fault) func() {
	draw := f.rand()
	transfer := c.ledger.changes.watch(func(change simconsul.Change) bool {
		return change.New != nil && change.New.Session != "" && state.ParseRecord(change.New.Value).State == state.RecordHandover
	})
	defer transfer.stop()
	unpin := move(c, f)
	change, ok := transfer.await(f.lasts)
	if !ok {
		unpin()
		return nil
	}
	time.Sleep(time.Duration(draw.Int64N(int64(pick(draw, ms, 20*ms, 300*ms)))))
	record := state.ParseRecord(change.New.Value)
	restore := c.powerOff(c.named(pick(draw, record.From, record.Node)))
	return func() {
		restore()
		unpin()
	}
}

// killedUntilProof kills the owner's process, whose kernel goes on answering, and returns
// the successor's first probe.
func killedUntilProof(c *cluster, f fault) (owner *host, probe frame, ok bool) {
	addr := c.addrs[f.addr]
	owner = c.ownerOf(addr)
	if owner == nil {
		return nil, frame{}, false
	}
	proof := c.net.sent.watch(func(f frame) bool { return f.probes() && f.target == addr && f.from != owner.kernel.mac })
	defer proof.stop()
	c.mu.Lock()
	owner.kill()
	c.mu.Unlock()
	probe, ok = proof.await(f.lasts)
	return owner, probe, ok
}

// crashInProof lets the killed owner's host, or the successor, die while the successor
// probes for the address.
func crashInProof(c *cluster, f fault) func() {
	draw := f.rand()
	owner, probe, ok := killedUntilProof(c, f)
	if !ok {
		return nil
	}
	time.Sleep(time.Duration(draw.Int64N(int64(pick(draw, ms, 20*ms, 300*ms, sec, sec)))))
	for _, h := range c.hosts {
		if h.kernel.mac == probe.from && draw.IntN(3) > 0 {
			return c.powerOff(h)
		}
	}
	return c.powerOff(owner)
}

// stallInProof stalls the switch while the successor probes for the address.
func stallInProof(c *cluster, f fault) func() {
	draw := f.rand()
	if _, _, ok := killedUntilProof(c, f); !ok {
		return nil
	}
	time.Sleep(time.Duration(draw.Int64N(int64(20 * ms))))
	end := switchStalls(c, f)
	time.Sleep(pick(draw, stalls...))
	end()
	return nil
}

// named returns the host with that name, or nil.
func (c *cluster) named(name string) *host {
	for _, h := range c.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// ownerOf returns the host that alone answers for an address, or nil.
func (c *cluster) ownerOf(addr netip.Addr) *host {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if owners := c.net.client.owners(addr); len(owners) == 1 {
		return c.named(owners[0].name)
	}
	return nil
}
