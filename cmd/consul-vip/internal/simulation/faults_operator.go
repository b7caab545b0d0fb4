package simulation

import (
	"time"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease/state"
)

// operatorFaults are what operators and their services do.
var operatorFaults = []kind{
	{name: "move", weight: 6, shortest: 100 * ms, longest: 10 * sec, begin: move, address: true},
	{name: "release and hold", weight: 3, shortest: 100 * ms, longest: 10 * sec, begin: releaseAndHold, address: true},
	{name: "release", weight: 4, shortest: 1 * sec, longest: 5 * sec, begin: release, address: true},
	{name: "drain", weight: 5, shortest: 100 * ms, longest: 15 * sec, begin: drain},
	{name: "drain all", weight: 1, shortest: 100 * ms, longest: 8 * sec, begin: drainAll},
	{name: "reload", weight: 6, shortest: 500 * ms, longest: 10 * sec, begin: reload},
	{name: "service dies", weight: 8, shortest: 100 * ms, longest: 10 * sec, begin: serviceDies},
	{name: "priority step", weight: 3, shortest: 500 * ms, longest: 10 * sec, begin: priorityStep},
}

// written writes a key of an operator and returns what deletes it.
func (c *cluster) written(key, value string) func() {
	_ = c.consul.Put(key, value)
	return func() {
		for c.consul.Get(key) != nil {
			_ = c.consul.Delete(key)
			time.Sleep(100 * ms)
		}
	}
}

func move(c *cluster, f fault) func() {
	return c.written(c.keys.Pin(c.addrs[f.addr].String()), c.at(f).name)
}

func releaseAndHold(c *cluster, f fault) func() {
	return c.written(c.keys.Pin(c.addrs[f.addr].String()), state.Nobody)
}

func release(c *cluster, f fault) func() {
	pair := c.consul.Get(c.lockKey(f))
	if pair == nil {
		return nil
	}
	return c.written(c.keys.Release(c.addrs[f.addr].String()), state.ParseRecord(pair.Value).Node)
}

func drain(c *cluster, f fault) func() { return c.written(c.keys.Drain(c.at(f).name), "") }

func drainAll(c *cluster, _ fault) func() {
	var undo []func()
	for _, h := range c.hosts {
		undo = append(undo, c.written(c.keys.Drain(h.name), ""))
	}
	return func() {
		for _, f := range undo {
			f()
		}
	}
}

// reload changes the configuration of a host, and back.
func reload(c *cluster, f fault) func() {
	h := c.at(f)
	before, changed := *h.config, *h.config
	changed.VIPs = nil
	for i, v := range before.VIPs {
		switch {
		case i != f.addr:
		case f.draw%4 == 0 && len(before.VIPs) > 1:
			continue // the address is removed
		case f.draw%4 == 1:
			v.Prefix = pick(f.rand(), v.Prefix)
			v.DeadMan += sec
		default:
			v.Priority = int(f.draw % 200)
		}
		changed.VIPs = append(changed.VIPs, v)
	}
	c.reconfigure(h, &changed)
	return func() { c.reconfigure(h, &before) }
}

func (c *cluster) reconfigure(h *host, cfg *config.Config) {
	c.mu.Lock()
	h.config = cfg
	p := h.process
	c.mu.Unlock()
	if p != nil {
		c.log.add(p.name, "SIGHUP")
		p.hangup.Set()
	}
}

// serviceDies makes the service of a host, or of all hosts, not fit.
func serviceDies(c *cluster, f fault) func() {
	set := func(reason string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, h := range c.hosts {
			if h == c.at(f) || f.draw%3 == 0 {
				h.unfit = reason
			}
		}
	}
	set("the service is dead")
	return func() { set("") }
}

func priorityStep(c *cluster, f fault) func() {
	c.mu.Lock()
	p := c.at(f).process
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	step := int(f.draw%3) - 1
	send(p, p.priority, step)
	return func() { send(p, p.priority, -step) }
}
