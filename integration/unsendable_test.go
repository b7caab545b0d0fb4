package integration

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestFramesNotSent has the best placed host send no ARP frame although its carrier is
// up: its own egress filter drops them, and every send fails. When the owner crashes, the
// host may try for the address, but not again and again ahead of the one that can serve.
func TestFramesNotSent(t *testing.T) {
	s := newClientsScene(t)
	with := func(priority int) config { return config{vip: fmt.Sprintf("  priority = %d", priority)} }
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	owner := s.startOn(with(100), h2)[0]
	best := s.startStandby(h1, with(50))
	other := s.startStandby(h3, with(150))
	sends := s.mute(h1)
	s.NoError(owner.Kill())
	began := time.Now()
	s.awaitWithin(deadMan+soon, s.ownedBy(h3))
	tries := acquisitions(best, s.vip)
	t.Logf("%s owned it %v after the crash; %s had acquired the lock %d times", h3.Name, time.Since(began), h1.Name, tries)
	s.LessOrEqual(tries, 3, "times that %s acquired the lock", h1.Name)

	// Now it is eligible again, at the latest after its back-off.
	sends()
	s.awaitWithin(2*soon, s.memberOn(h1))
	s.stop(other)
	s.await(s.ownedBy(h1))
	s.seen(h2, h3, h1)
}

// mute drops the ARP frames that programs of a host send. Sending fails.
func (s *scene) mute(h *lab.Host) (undo func()) {
	s.t.Helper()
	return s.filterFrames(h, "type filter hook egress device \"eth0\" priority 0; ether type arp drop")
}

// acquisitions counts how often a process acquired the lock of an address.
func acquisitions(p *lab.Process, vip netip.Addr) (n int) {
	for _, e := range logged(p, "state changed") {
		if e.Get("vip") == vip.String() && e.Get("state") == "acquired" {
			n++
		}
	}
	return n
}
