package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestIPv6Only has machines without any IPv4 address, where Consul is reached by IPv6
// alone, also the host's own agent. The address moves, survives its process, and then its
// host.
func TestIPv6Only(t *testing.T) {
	w := lab.Clients.Cluster()
	w.IPv6Only = true
	s := newSceneOfFamily(t, ownLab(t, w), ipv6)
	procs := s.startAll(config{})
	h1, h2 := procs[0].Host, procs[1].Host
	s.succeed(procs[2].Host, "move", s.vip.String(), "-to="+h2.Name)
	s.await(s.ownedBy(h2))
	s.succeed(h1, "unpin", s.vip.String())
	s.NoError(procs[1].Kill())
	next := s.takenOver(h2)
	s.await(tells(s.instanceOn(next), "station", "answer")) // it has proved that the other one let go

	s.startStandby(h2, config{})
	s.pass(calm)
	s.dies(next)
	last := s.takenOver(next)
	s.await(s.noted(last, noteOf(next), true))
	s.seen(h1, h2, next, last)
}

// TestMulticastSnooping has a switch pass multicast frames only to the hosts that have
// asked for them (RFC 4541). A standby must hear what is said about an address that it
// does not have.
func TestMulticastSnooping(t *testing.T) {
	s := newSceneOfFamily(t, sharedLabOf(t, lab.Clients), ipv6)
	s.NoError(s.Snoop(t.Context(), true))
	t.Cleanup(func() { s.NoError(s.Snoop(context.Background(), false)) })
	procs := s.startAll(config{vip: `on_conflict = "contend"`})
	s.pass(2 * time.Second) // the switch knows the groups of all hosts
	h1, h2 := procs[0].Host, procs[1].Host

	s.handsOver(h1, h2)
	s.NoError(s.Observer.Send("eth0", lab.Advertisement(strangerMAC, s.vip).Frame()))
	s.await(tells(procs[1], "address conflict", strangerMAC.String()))
	next := s.takenOver(nil)

	s.pass(calm)
	s.dies(next)
	last := s.takenOver(next)
	s.await(s.noted(last, noteOf(next), true))
}

// handsOver moves the address to and fro until the successor has heard by a frame that it
// may bind it. That frame comes too late only on a machine that is too busy.
func (s *scene) handsOver(owner, successor *lab.Host) {
	s.t.Helper()
	for range 5 {
		before := len(logged(s.instanceOn(successor), "no station has the address"))
		s.put(pinKey(s.vip), successor.Name)
		s.await(s.ownedBy(successor))
		heard := len(logged(s.instanceOn(successor), "no station has the address")) == before
		if heard {
			s.remove(pinKey(s.vip))
			return
		}
		s.put(pinKey(s.vip), owner.Name)
		s.await(s.ownedBy(owner))
	}
	s.FailNow(fmt.Sprintf("expected %s to hear that the address was released", successor.Name))
}

// TestIPv6Disabled has the best placed host take no IPv6 address on the interface, and then
// the owner. Each says so and goes on, and another one serves the address.
func TestIPv6Disabled(t *testing.T) {
	s := newSceneOfFamily(t, sharedLabOf(t, lab.Clients), ipv6)
	start := func(h *lab.Host, priority int) *lab.Process {
		return s.start(h, config{vip: fmt.Sprintf("interface = \"eth0\"\npriority = %d", priority)})
	}
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	s.disableIPv6(h1)
	first := start(h1, 50)
	second := start(h2, 100)
	s.awaitWithin(2*soon, s.ownedBy(h2))
	start(h3, 150)
	s.await(s.memberOn(h3))
	s.disableIPv6(h2)
	s.awaitWithin(2*soon, s.ownedBy(h3))
	for _, p := range []*lab.Process{first, second} {
		s.await(tells(p, "leaving the address to others", "IPv6 is disabled on the interface"))
		s.running(p)
	}
}

// disableIPv6 makes a host's interface take no IPv6 address until the end of the test.
func (s *scene) disableIPv6(h *lab.Host) {
	s.t.Helper()
	const disable = "net/ipv6/conf/eth0/disable_ipv6"
	s.NoError(h.SetSysctl(disable, "1"))
	s.t.Cleanup(func() {
		s.NoError(h.SetSysctl(disable, "0"))
		s.NoError(h.SetLink("eth0", true)) // restores its own address
	})
}
