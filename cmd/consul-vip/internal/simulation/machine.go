package simulation

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/netif"
)

// request is how long a netlink request takes at most without a fault.
const request = 100 * time.Microsecond

// machine is a host as one process sees it: an agent.Host.
type machine struct {
	*kernel
	gate   *gate
	boot   int         // of the kernel, in which the process runs
	events *eventQueue // hides the kernel's
	// underWay counts requests: a killed process ends only when the kernel has
	// carried out its last one.
	underWay sync.WaitGroup
}

func newMachine(k *kernel, g *gate) *machine {
	m := &machine{kernel: k, gate: g, events: &eventQueue{wake: make(chan struct{}, 1)}}
	k.net.mu.Lock()
	defer k.net.mu.Unlock()
	m.boot = k.boots
	k.events[m.events] = true
	return m
}

// close ends what the process has open in the kernel.
func (m *machine) close() {
	m.underWay.Wait()
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	delete(m.kernel.events, m.events)
}

// call makes one request. A request that has begun takes effect, whatever happens to
// the process meanwhile.
func (m *machine) call(do func() error) error {
	m.underWay.Add(1)
	defer m.underWay.Done()
	began := m.net.log.elapsed()
	if err := m.gate.pass(); err != nil {
		return err
	}
	for m.heldUp() {
	}
	err := m.takeEffect(began, do)
	if err := m.gate.pass(); err != nil {
		return err
	}
	return err
}

// takeEffect carries out a request that the process began at that time.
func (m *machine) takeEffect(began time.Duration, do func() error) error {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	if m.boots != m.boot {
		return errKilled
	}
	if m.net.log.elapsed()-began > request {
		m.net.excuse(excuse{name: lateRequest, host: m.name, limit: undoTime + 2*m.slow})()
	}
	return do()
}

// heldUp waits for the kernel, and reports whether it may have to wait again.
func (m *machine) heldUp() bool {
	m.net.mu.Lock()
	held, still := m.held, m.still
	takes := m.net.between(0, request+m.slow)
	m.net.mu.Unlock()
	switch {
	case still != nil:
		<-still.ended
		return true
	case held != nil:
		<-held
		return true
	}
	time.Sleep(takes)
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	return m.still != nil || m.held != nil
}

func (m *machine) netInterface() *net.Interface {
	return &net.Interface{Index: ifindex, Name: ifname, MTU: 1500, HardwareAddr: net.HardwareAddr(m.mac[:]),
		Flags: net.FlagUp | net.FlagBroadcast | net.FlagRunning}
}

// Find implements agent.Host.
func (m *machine) Find(netip.Addr, string) (*net.Interface, error) {
	err := m.call(func() error { return nil })
	return m.netInterface(), err
}

// Own implements agent.Host.
func (m *machine) Own(address net.HardwareAddr) (own bool, err error) {
	err = m.call(func() error {
		own = mac(address) == m.mac
		return nil
	})
	return own, err
}

// Router implements agent.Host.
func (m *machine) Router(string) bool { return false }

// Identity implements agent.Host.
func (m *machine) Identity(int) (id netif.Identity, err error) {
	err = m.call(func() error {
		id = netif.Identity{
			MACs:      []net.HardwareAddr{net.HardwareAddr(m.mac[:])},
			Addrs:     []netip.Prefix{netip.PrefixFrom(m.own.v4, 24), netip.PrefixFrom(m.own.v6, 64)},
			LinkLocal: m.own.linkLocal,
		}
		if m.net.router != m.own {
			id.Gateway, id.Gateway6 = m.net.router.v4, m.net.router.linkLocal
		}
		return nil
	})
	return id, err
}

// Clear implements agent.Host.
func (m *machine) Clear(addrs []netip.Addr) (cleared []netip.Prefix, err error) {
	err = m.call(func() error {
		for _, addr := range addrs {
			if a := m.addresses[addr]; a != nil && !a.ours {
				return &netif.ForeignError{Addr: addr, Interface: ifname}
			}
		}
		for _, addr := range addrs {
			if m.addresses[addr] != nil {
				m.remove(addr, "a leftover")
				cleared = append(cleared, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
		return nil
	})
	return cleared, err
}

// Foreign implements agent.Host.
func (m *machine) Foreign(addr netip.Addr) error {
	return m.call(func() error {
		if a := m.addresses[addr]; a != nil && !a.ours {
			return &netif.ForeignError{Addr: addr, Interface: ifname}
		}
		return nil
	})
}

// Bind implements agent.Host.
func (m *machine) Bind(_ int, p netip.Prefix, lifetime time.Duration) (agent.Address, error) {
	addr := p.Addr()
	err := m.call(func() error {
		switch a := m.addresses[addr]; {
		case lifetime < time.Second:
			return netif.ErrLifetime
		case a != nil && !a.ours:
			return &netif.ForeignError{Addr: addr, Interface: ifname}
		}
		m.set(addr, lifetime)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &bound{machine: m, addr: addr}, nil
}

// Watch implements agent.Host.
func (m *machine) Watch(ctx context.Context, events chan<- netif.Event) error {
	m.events.add(event{link: true})
	m.events.add(event{identity: true})
	for {
		for _, e := range m.take() {
			if err := m.gate.pass(); err != nil {
				<-ctx.Done()
				return nil
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-m.events.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// take returns the events that have come.
func (m *machine) take() (events []netif.Event) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	identity := netif.IdentityChanged{Index: ifindex}
	link := netif.LinkChanged{Index: ifindex, Name: ifname, Up: m.carrier, HardwareAddr: net.HardwareAddr(m.mac[:])}
	for _, e := range m.events.take() {
		switch {
		case e.link:
			events = append(events, link)
		case e.identity:
			events = append(events, identity)
		case e.removed.IsValid():
			events = append(events, netif.AddressRemoved{Index: ifindex, Addr: e.removed})
		case e.foreign.IsValid():
			events = append(events, netif.AddressForeign{Index: ifindex, Addr: e.foreign})
		case e.lost:
			events = append(events, netif.Resync{}, link, identity)
			for addr, a := range m.addresses {
				if !a.ours {
					events = append(events, netif.AddressForeign{Index: ifindex, Addr: addr})
				}
			}
		}
	}
	return events
}

// bound is an address that a process has bound.
type bound struct {
	machine *machine
	addr    netip.Addr

	mu      sync.Mutex // guards unbound
	unbound bool
}

func (b *bound) isUnbound() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unbound
}

// Refresh implements agent.Address.
func (b *bound) Refresh(lifetime time.Duration) (restored bool, err error) {
	err = b.renew(lifetime, func() { restored = b.machine.set(b.addr, lifetime) })
	return restored, err
}

// Extend implements agent.Address.
func (b *bound) Extend(lifetime time.Duration) (extended bool, err error) {
	err = b.renew(lifetime, func() {
		if extended = b.machine.addresses[b.addr] != nil; extended {
			b.machine.set(b.addr, lifetime)
		}
	})
	return extended, err
}

// renew has the kernel act on an address that is to get a new lifetime.
func (b *bound) renew(lifetime time.Duration, act func()) error {
	return b.machine.call(func() error {
		switch {
		case b.isUnbound():
			return netif.ErrUnbound
		case lifetime < time.Second:
			return netif.ErrLifetime
		}
		act()
		return nil
	})
}

// Taken implements agent.Address.
func (b *bound) Taken() error {
	return b.machine.call(func() error {
		if a := b.machine.addresses[b.addr]; a != nil && !a.ours {
			return &netif.ForeignError{Addr: b.addr, Interface: ifname}
		}
		return nil
	})
}

// Unbind implements agent.Address.
func (b *bound) Unbind() error {
	b.mu.Lock()
	b.unbound = true
	b.mu.Unlock()
	return b.machine.call(func() error {
		b.machine.remove(b.addr, "unbound")
		return nil
	})
}

// openWire opens the wire of the interface.
func (m *machine) openWire(ifi *net.Interface, f announcer.Family, o announcer.Options) (*announcer.Wire, error) {
	if err := m.gate.pass(); err != nil {
		return nil, err
	}
	return announcer.New(newSocket(m, f), ifi.HardwareAddr, f, o), nil
}
