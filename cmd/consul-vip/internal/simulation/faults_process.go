package simulation

import "time"

// processFaults are the faults of processes and of whole machines.
var processFaults = []kind{
	{name: "terminate", weight: 8, begin: terminate},
	{name: "kill", weight: 6, begin: kill},
	{name: "pause", weight: 8, shortest: 100 * ms, longest: 15 * sec, begin: pause, bearable: shorterThanCheck, exits: []int{exitLost}, late: true},
	{name: "suspend", weight: 3, shortest: 100 * ms, longest: 40 * sec, begin: suspend, exits: []int{exitLost, exitConflict}, machine: true, late: true},
	{name: "virtual machine paused", weight: 2, shortest: 100 * ms, longest: 40 * sec, begin: hypervisor, exits: []int{exitLost, exitConflict}, machine: true, late: true},
	{name: "stall", weight: 2, shortest: 20 * ms, longest: 10 * sec, begin: stall, exits: []int{exitLost, exitConflict}, machine: true, late: true},
	{name: "crash", weight: 10, shortest: 2 * sec, longest: 40 * sec, begin: crash, machine: true},
}

// at returns the fault's host.
func (c *cluster) at(f fault) *host { return c.hosts[f.host] }

func terminate(c *cluster, f fault) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(f).terminate()
	return nil
}

func kill(c *cluster, f fault) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(f).kill()
	return nil
}

func pause(c *cluster, f fault) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.at(f).process
	if p == nil {
		return nil
	}
	p.hindered = true
	p.gate.pause()
	return p.gate.resume
}

// afterStandstill is how long two hosts may answer after a machine stood still: up to
// 1 s until the next refresh reads the clock, and 5 s until Consul tells a machine that
// does not know that time has passed. If Consul does not answer either, the lifetime
// ends.
const afterStandstill = 7 * time.Second

func standStill(c *cluster, f fault, name string, lifetimes, bootTime bool) func() {
	h := c.at(f)
	c.mu.Lock()
	if h.powerless {
		c.mu.Unlock()
		return nil
	}
	if h.process != nil {
		h.process.hindered = true
	}
	c.mu.Unlock()
	c.net.mu.Lock()
	end := c.net.excuse(excuse{name: name, host: h.name, limit: afterStandstill, after: afterStandstill})
	c.net.mu.Unlock()
	wake := h.standStill(lifetimes, bootTime)
	return func() {
		wake()
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		end()
	}
}

func suspend(c *cluster, f fault) func() { return standStill(c, f, "machine suspended", true, true) }

func hypervisor(c *cluster, f fault) func() {
	return standStill(c, f, "virtual machine paused", true, false)
}

func stall(c *cluster, f fault) func() { return standStill(c, f, "machine stalled", false, true) }

// crash takes the power from a host, in half of all cases one that has an address.
func crash(c *cluster, f fault) func() {
	if owner := c.ownerOf(c.addrs[f.addr]); owner != nil && f.draw%2 == 0 {
		return c.powerOff(owner)
	}
	return c.powerOff(c.at(f))
}

// powerOff takes the power from a host that runs, and returns what gives it back.
func (c *cluster) powerOff(h *host) (boot func()) {
	c.mu.Lock()
	if h.powerless || h.standing {
		c.mu.Unlock()
		return func() {}
	}
	h.powerless = true
	h.kill()
	c.mu.Unlock()
	setBack := c.setBack()
	c.net.mu.Lock()
	if c.alone.Load() {
		c.dies(h, setBack)
	}
	h.kernel.crash()
	c.net.mu.Unlock()
	h.consul.Crash()
	return func() {
		c.net.mu.Lock()
		c.net.death = nil
		h.kernel.boot()
		c.net.mu.Unlock()
		h.consul.Start()
		c.mu.Lock()
		defer c.mu.Unlock()
		h.powerless = false
		h.ensure()
	}
}
