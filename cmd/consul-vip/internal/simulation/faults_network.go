package simulation

import "time"

// networkFaults are the faults of the segment and of what is on it.
var networkFaults = []kind{
	{name: "link down", weight: 6, shortest: 50 * ms, longest: 20 * sec, begin: linkDown, bearable: shorterThanDebounce, exits: []int{exitConflict}},
	{name: "link flaps", weight: 3, shortest: 500 * ms, longest: 8 * sec, begin: linkFlaps, exits: []int{exitConflict}},
	{name: "loss", weight: 4, shortest: 500 * ms, longest: 20 * sec, begin: loss, bearable: shorterThanDead, exits: []int{exitConflict}},
	{name: "disorder", weight: 4, shortest: 500 * ms, longest: 20 * sec, begin: disorder, bearable: shorterThanDead, exits: []int{exitConflict}},
	{name: "one-way cut", weight: 3, shortest: 500 * ms, longest: 20 * sec, begin: oneWayCut, bearable: shorterThanDead, exits: []int{exitConflict}},
	{name: "split", weight: 3, shortest: 500 * ms, longest: 20 * sec, begin: split, bearable: shorterThanDead, exits: []int{exitConflict}},
	{name: "stranger", weight: 4, shortest: 500 * ms, longest: 40 * sec, begin: strangerArrives, exits: []int{exitConflict}, address: true, ends: 1},
	{name: "mute stranger", weight: 2, shortest: 500 * ms, longest: 40 * sec, begin: muteStranger, exits: []int{exitConflict}, address: true, ends: 1},
	{name: "forged claim", weight: 4, begin: forgedClaim, exits: []int{exitConflict}, address: true, ends: 1},
	{name: "stray probes", weight: 3, shortest: 100 * ms, longest: 2 * sec, begin: strayProbes, address: true},
	{name: "frames refused", weight: 4, shortest: 100 * ms, longest: 15 * sec, begin: framesRefused, bearable: shorterThanDead},
	{name: "frames filtered", weight: 2, shortest: 100 * ms, longest: 15 * sec, begin: framesFiltered, bearable: shorterThanDead, exits: []int{exitConflict}},
}

// unheard is how long two hosts may answer if they cannot hear each other: until the
// old owner's hold deadline and the end of the address's lifetime after it. They hear
// each other at the next announcement.
func (c *cluster) unheard() time.Duration { return c.base.Consul.SessionTTL + latestRemoval + sec }

// excuseHost begins an excuse for two owners of which one is a host.
func (c *cluster) excuseHost(name, host string) (end func()) {
	return c.net.excuse(excuse{name: name, host: host, limit: c.unheard(), after: 2 * sec})
}

func linkDown(c *cluster, f fault) (up func()) {
	k := c.at(f).kernel
	var end func()
	c.locked(func() {
		end = c.excuseHost("layer 2 split", k.name)
		k.setCarrier(false)
	})
	return func() {
		c.locked(func() {
			k.setCarrier(true)
			end()
		})
	}
}

func linkFlaps(c *cluster, f fault) func() {
	draw := f.rand()
	for range 2 + draw.IntN(5) {
		up := linkDown(c, f)
		time.Sleep(time.Duration(draw.Int64N(int64(f.lasts) / 4)))
		up()
		time.Sleep(time.Duration(draw.Int64N(int64(f.lasts) / 4)))
	}
	return nil
}

func loss(c *cluster, f fault) func() {
	var end func()
	c.locked(func() {
		end = c.excuseHost("frames lost", "")
		c.net.segment.loss = 0.02 + 0.6*f.rand().Float64()
		c.net.look()
	})
	return func() {
		c.locked(func() {
			c.net.segment.loss = 0
			c.net.look()
			end()
		})
	}
}

// disorder delays frames by less than a probe waits for its answer.
func disorder(c *cluster, f fault) func() {
	c.locked(func() {
		c.net.segment.delay = 4 * ms
		c.net.segment.duplicate = f.rand().Float64() / 2
	})
	return func() {
		c.locked(func() { c.net.segment.delay, c.net.segment.duplicate = 0, 0 })
	}
}

func oneWayCut(c *cluster, f fault) func() {
	way := [2]mac{c.at(f).kernel.mac, c.hosts[f.peer].kernel.mac}
	var end func()
	c.locked(func() {
		end = c.excuseHost("layer 2 split", c.at(f).name)
		c.net.segment.cut[way]++
		c.net.look()
	})
	return func() {
		c.locked(func() {
			c.net.segment.cut[way]--
			c.net.look()
			end()
		})
	}
}

func split(c *cluster, f fault) func() {
	draw := f.rand()
	var end func()
	c.locked(func() {
		end = c.excuseHost("layer 2 split", "")
		for _, k := range c.net.kernels {
			c.net.segment.sides[k.mac] = draw.IntN(2) == 0
		}
		c.net.look()
	})
	return func() {
		c.locked(func() {
			clear(c.net.segment.sides)
			c.net.look()
			end()
		})
	}
}

func strangerArrives(c *cluster, f fault) func() { return arrive(c, f, false) }
func muteStranger(c *cluster, f fault) func()    { return arrive(c, f, true) }

func arrive(c *cluster, f fault, mute bool) func() {
	addr := c.addrs[f.addr]
	taken := false
	c.locked(func() { taken = c.net.strangers[addr] != nil })
	if taken {
		return nil
	}
	s := &stranger{net: c.net, mac: mac{2, 0, 0, 0, 0xff, byte(10 + f.addr)}, addr: addr, mute: mute}
	s.arrive()
	return s.leave
}

func forgedClaim(c *cluster, f fault) func() {
	to := everybody
	if f.draw%2 == 0 {
		to = c.at(f).kernel.mac
	}
	c.net.segment.forge(c.addrs[f.addr], to)
	return nil
}

// strayProbes moves an address while another station probes for it, which a host does
// that is to be configured with it.
func strayProbes(c *cluster, f fault) func() {
	from := mac{2, 0, 0, 0, 0xff, 2}
	send := func() {
		c.locked(func() {
			c.net.segment.transmit(probe(from, c.addrs[f.addr]))
		})
	}
	send()
	unpin := move(c, f)
	for range 20 {
		send()
		time.Sleep(ms)
	}
	return unpin
}

func framesRefused(c *cluster, f fault) func() { return setEgress(c, f, egressRefuse, "") }

func framesFiltered(c *cluster, f fault) func() {
	return setEgress(c, f, egressDrop, "answers filtered")
}

func setEgress(c *cluster, f fault, e egress, excuse string) func() {
	k := c.at(f).kernel
	end := func() {}
	c.locked(func() {
		if excuse != "" {
			end = c.excuseHost(excuse, k.name)
		}
		k.egress = e
		c.net.look()
	})
	return func() {
		c.locked(func() {
			k.egress = egressSent
			end()
			c.net.look()
		})
	}
}
