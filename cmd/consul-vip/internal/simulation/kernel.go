package simulation

import (
	"net/netip"
	"time"
)

// latestRemoval is how late a kernel removes an address after its lifetime, at most:
// its timer checks them at most once a second (ADDRCONF_TIMER_FUZZ_MAX).
const latestRemoval = 1100 * time.Millisecond

// ifindex and ifname are of the only interface of every host.
const (
	ifindex = 2
	ifname  = "eth0"
)

// egress is what happens to the frames that a host sends.
type egress int

const (
	egressSent   egress = iota
	egressRefuse        // the queue of programs is full: sending fails, the kernel answers
	egressDrop          // a filter drops them, and sending succeeds
)

// kernel is the network side of a host's kernel. It goes on answering for its
// addresses while processes are paused or dead. The network's mutex guards it.
type kernel struct {
	net  *network
	name string // of the host
	mac  mac
	own  ownAddrs

	on        bool // the host is powered
	boots     int  // how often it was
	carrier   bool
	stalled   bool // frames are dropped in both directions, although there is a carrier
	egress    egress
	mute      bool          // it does not answer for its own addresses
	still     *standstill   // the whole machine stands still; nil: it runs
	held      chan struct{} // requests wait until it closes; nil: they do not
	slow      time.Duration // requests take up to this long
	addresses map[netip.Addr]*address
	sockets   map[*socket]bool
	events    map[*eventQueue]bool
	changed   time.Duration // when the carrier changed last
}

// ownAddrs are the addresses that belong to a machine.
type ownAddrs struct{ v4, v6, linkLocal netip.Addr }

// newOwnAddrs returns those of the machine with this number.
func newOwnAddrs(number byte) ownAddrs {
	last := func(prefix string) netip.Addr {
		a := netip.MustParseAddr(prefix).As16()
		a[15] = number
		return netip.AddrFrom16(a)
	}
	return ownAddrs{netip.AddrFrom4([4]byte{10, 77, 0, number}), last("fd77::"), last("fe80::")}
}

func (o ownAddrs) has(addr netip.Addr) bool {
	return addr == o.v4 || addr == o.v6 || addr == o.linkLocal
}

// address is a floating address of a host.
type address struct {
	ours    bool          // it has our tag and a lifetime
	added   time.Duration // since the start
	until   time.Duration // since the start: when the kernel removes it
	expires *time.Timer   // nil if it has no lifetime

	unlocked time.Duration // since the start: since when its lock belongs to somebody else; 0: it does not
}

// standstill is a time in which a machine does not run.
type standstill struct {
	ended chan struct{}
	since time.Duration
	// lifetimes stand still, too: the machine is suspended or its hypervisor has paused
	// it. Else its timers run, and expire at the end.
	lifetimes bool
}

func newKernel(n *network, name string, m mac, own ownAddrs) *kernel {
	k := &kernel{net: n, name: name, mac: m, own: own, on: true, carrier: true, addresses: map[netip.Addr]*address{},
		sockets: map[*socket]bool{}, events: map[*eventQueue]bool{}}
	n.kernels = append(n.kernels, k)
	n.segment.stations = append(n.segment.stations, k)
	return k
}

func (k *kernel) address() mac { return k.mac }

// listening implements station.
func (k *kernel) listening() bool { return k.on && k.carrier && !k.stalled && k.still == nil }

// receive implements station: the kernel answers for its addresses, and every packet
// socket gets a copy.
func (k *kernel) receive(f frame) {
	if f.operation == opRequest && f.senderMAC != k.mac && k.has(f.target) && k.egress != egressDrop {
		k.net.segment.transmit(answer(f, k.mac))
	}
	for s := range k.sockets {
		if s.family == f.family {
			s.enqueue(f)
		}
	}
}

// has reports whether the kernel answers for an address.
func (k *kernel) has(addr netip.Addr) bool {
	return k.addresses[addr] != nil || k.own.has(addr) && !k.mute
}

// answers reports whether a station that hears everybody gets an answer for addr.
func (k *kernel) answers(addr netip.Addr) bool {
	return k.addresses[addr] != nil && k.listening() && !k.net.segment.stalled && k.egress != egressDrop
}

// set binds an address for a lifetime, or extends it.
func (k *kernel) set(addr netip.Addr, lifetime time.Duration) (added bool) {
	if lifetime > k.net.longestLifetime {
		k.net.client.violated("%s has %s for %s, beyond every hold deadline", k.name, addr, lifetime)
	}
	lifetime = lifetime.Truncate(time.Second) + k.net.between(0, latestRemoval)
	a := k.addresses[addr]
	if added = a == nil; added {
		a = &address{added: k.net.log.elapsed()}
		k.addresses[addr] = a
	}
	a.ours = true
	a.until = k.net.log.elapsed() + lifetime
	if a.expires == nil {
		a.expires = time.AfterFunc(lifetime, func() { k.expire(addr, a) })
	} else {
		a.expires.Reset(lifetime)
	}
	if added {
		k.net.log.add(k.name, "kernel: %s added for %s", addr, lifetime)
		k.net.client.look(addr)
	}
	return added
}

// expire removes an address whose lifetime has ended.
func (k *kernel) expire(addr netip.Addr, a *address) {
	k.net.mu.Lock()
	defer k.net.mu.Unlock()
	// A timer may fire while it is set again.
	if k.addresses[addr] != a || a.expires == nil || k.net.log.elapsed() < a.until || k.still != nil {
		return
	}
	k.remove(addr, "its lifetime has ended")
}

// remove removes an address, if it is there.
func (k *kernel) remove(addr netip.Addr, reason string) {
	a := k.addresses[addr]
	if a == nil {
		return
	}
	if a.expires != nil {
		a.expires.Stop()
	}
	delete(k.addresses, addr)
	k.net.log.add(k.name, "kernel: %s removed, %s", addr, reason)
	k.report(event{removed: addr})
	k.net.client.look(addr)
}

// bindForeign binds an address without a lifetime, as another program would.
func (k *kernel) bindForeign(addr netip.Addr) {
	a := k.addresses[addr]
	if a == nil {
		a = &address{}
		k.addresses[addr] = a
	}
	if a.expires != nil {
		a.expires.Stop()
		a.expires = nil
	}
	a.ours = false
	k.net.log.add(k.name, "kernel: another program binds %s", addr)
	k.report(event{foreign: addr})
	k.net.client.look(addr)
}

// setCarrier connects or disconnects the host. The kernel reports a lost carrier late if
// there was another change within a second (linkwatch).
func (k *kernel) setCarrier(up bool) {
	if k.carrier == up {
		return
	}
	k.carrier = up
	k.net.log.add(k.name, "kernel: carrier %t", up)
	now := k.net.log.elapsed()
	late := time.Duration(0)
	if !up {
		late = max(0, k.changed+time.Second-now)
	}
	k.changed = now
	k.net.look()
	time.AfterFunc(late, func() {
		k.net.mu.Lock()
		defer k.net.mu.Unlock()
		k.report(event{link: true})
	})
}

// stall drops all frames from and to the host, until recover.
func (k *kernel) stall()   { k.setStalled(true) }
func (k *kernel) recover() { k.setStalled(false) }

func (k *kernel) setStalled(stalled bool) {
	k.stalled = stalled
	k.net.log.add(k.name, "port stalled: %t", stalled)
	k.net.look()
}

// stop makes the whole machine stand still.
func (k *kernel) stop(lifetimes bool) {
	k.still = &standstill{ended: make(chan struct{}), since: k.net.log.elapsed(), lifetimes: lifetimes}
	k.net.look()
}

// wake ends that.
func (k *kernel) wake() {
	still, now := k.still, k.net.log.elapsed()
	k.still = nil
	close(still.ended)
	for _, a := range k.addresses {
		if a.expires == nil {
			continue
		}
		if still.lifetimes {
			a.until += now - still.since
		}
		a.expires.Reset(max(0, a.until-now))
	}
	k.net.look()
}

// crash is the end of the machine's power: nothing of the kernel stays.
func (k *kernel) crash() {
	k.on = false
	k.boots++
	for addr := range k.addresses {
		k.remove(addr, "the host has crashed")
	}
	clear(k.sockets)
	clear(k.events)
	k.net.look()
}

// boot starts the machine again.
func (k *kernel) boot() {
	k.boots++
	k.on, k.carrier, k.egress, k.slow, k.held = true, true, egressSent, 0, nil
	k.net.look()
}

// report queues an event for every program that watches.
func (k *kernel) report(e event) {
	for q := range k.events {
		q.add(e)
	}
}
