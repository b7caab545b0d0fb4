package simulation

import "time"

// kernelFaults are the faults of a kernel, and of other programs on a host.
var kernelFaults = []kind{
	{name: "slow kernel", weight: 4, shortest: 500 * ms, longest: 10 * sec, begin: slowKernel, exits: []int{exitLost}},
	{name: "kernel held up", weight: 4, shortest: 200 * ms, longest: 8 * sec, begin: kernelHeldUp, bearable: shorterThanLifetime, exits: []int{exitLost}},
	{name: "address removed", weight: 4, begin: addressRemoved, exits: []int{exitLost}, address: true, ends: 2},
	{name: "foreign address", weight: 3, shortest: 100 * ms, longest: 20 * sec, begin: foreignAddress, exits: []int{exitFailure, exitConflict}, address: true, ends: 10},
	{name: "events lost", weight: 3, begin: eventsLost, bearable: forEver},
}

func (c *cluster) hinder(f fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range []*host{c.at(f)} {
		if h.process != nil {
			h.process.hindered = true
		}
	}
}

func slowKernel(c *cluster, f fault) func() {
	k := c.at(f).kernel
	c.hinder(f)
	c.locked(func() { k.slow = time.Duration(1+f.rand().IntN(30)) * 100 * ms })
	return func() {
		c.hinder(f)
		c.locked(func() { k.slow = 0 })
	}
}

func kernelHeldUp(c *cluster, f fault) func() {
	k := c.at(f).kernel
	c.hinder(f)
	held := make(chan struct{})
	c.locked(func() { k.held = held })
	return func() {
		c.hinder(f)
		c.locked(func() { k.held = nil })
		close(held)
	}
}

func addressRemoved(c *cluster, f fault) func() {
	draw := f.rand()
	addr := c.addrs[f.addr]
	for range 1 + draw.IntN(6) {
		c.locked(func() {
			for _, k := range c.net.kernels {
				if a := k.addresses[addr]; a != nil && a.ours {
					k.remove(addr, "by another program")
				}
			}
		})
		time.Sleep(time.Duration(draw.Int64N(int64(2 * sec))))
	}
	return nil
}

func foreignAddress(c *cluster, f fault) func() {
	k, addr := c.at(f).kernel, c.addrs[f.addr]
	var end func()
	c.locked(func() {
		end = c.net.excuse(excuse{name: "bound by another program", host: k.name, addr: addr, limit: time.Hour})
		if k.on {
			k.bindForeign(addr)
		}
	})
	return func() {
		c.locked(func() {
			if a := k.addresses[addr]; a != nil && !a.ours {
				k.remove(addr, "by the program that had bound it")
			}
			end()
		})
	}
}

func eventsLost(c *cluster, f fault) func() {
	k := c.at(f).kernel
	c.locked(func() {
		for q := range k.events {
			q.lose()
		}
	})
	return nil
}
