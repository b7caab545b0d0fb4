package integration

import (
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestCarrierLost takes the owner's cable out. Its Consul is behind the same cable,
// so the others find out by themselves.
func TestCarrierLost(t *testing.T) {
	s := newScene(t)
	procs := s.startAll(config{})
	h1 := procs[0].Host
	s.server = s.Cluster.Servers[1]
	s.unplug(h1, "eth0")
	next := s.takenOver(h1)
	s.NoError(h1.Plug("eth0"))
	s.consulReady()

	// The Consul server that comes back takes the others for failed and tells them
	// so. They may deny it too late for the session of the new owner.
	p := s.instanceOn(next)
	s.await(condition{next.Name + " to own the address, or to have ended", func() error {
		if !p.Running() {
			return nil
		}
		return s.ownedBy(next).seen()
	}})
	for _, p := range procs[1:] {
		if !p.Running() {
			s.exits(p, 4, soon)
		}
	}
	s.owner()
}

// TestCarrierLostTaken takes out the cable of the address alone: Consul is behind another
// one. Another host finds out, and has the address before the owner hands it over. The
// address does not return with the cable.
func TestCarrierLostTaken(t *testing.T) {
	s := newClientsScene(t)
	procs := s.startAll(config{})
	h1 := procs[0].Host
	s.pass(calm) // the host check has heard the owner often enough
	s.unplug(h1, "eth0")
	next := s.takenOver(h1)
	s.await(s.noted(next, noteOf(h1), true))

	s.NoError(h1.Plug("eth0"))
	s.await(s.memberOn(h1))
	s.pass(calm)
	s.await(s.ownedBy(next))
	s.seen(h1, next)
	s.running(procs...)
}

// TestCarrierLostHandsOver is the same without a host check: the owner hands over.
func TestCarrierLostHandsOver(t *testing.T) {
	s := newClientsScene(t)
	procs := s.startAll(config{vip: "host_check { misses = 0 }"})
	h1 := procs[0].Host
	s.unplug(h1, "eth0")
	next := s.takenOver(h1)
	s.await(logs(procs[0], "lock transferred", 1))
	s.holds(logs(s.instanceOn(next), "no station has the address", 0))

	s.NoError(h1.Plug("eth0"))
	s.await(s.memberOn(h1))
	s.pass(calm)
	s.await(s.ownedBy(next))
	s.seen(h1, next)
	s.running(procs...)
}

// unplug takes a cable out until the end of the test, and waits until the host
// has let go of the address.
func (s *scene) unplug(h *lab.Host, ifname string) {
	s.t.Helper()
	s.NoError(h.Unplug(ifname))
	s.t.Cleanup(func() { s.NoError(h.Plug(ifname)) })
	s.await(s.notOn(h))
}
