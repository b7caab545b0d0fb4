package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// spread counts the addresses that each host has, once each is bound once.
func (s *scene) spread() map[string]int {
	s.t.Helper()
	s.eventually(2*soon, s.allBound)
	counts := make(map[string]int)
	for _, hosts := range s.bound(s.t.Context()) {
		counts[hosts[0].Name]++
	}
	return counts
}

func TestManySpreadEvenly(t *testing.T) {
	var vips []netip.Addr
	for i := range 30 {
		vips = append(vips, netip.AddrFrom4([4]byte{10, 77, 9, byte(1 + i)}))
	}
	s := newSceneOf(t, sharedWorld(t), 100*time.Millisecond, vips...)
	var procs []*lab.Process
	for _, h := range s.Servers {
		procs = append(procs, s.start(h, config{}))
	}
	counts := s.spread()
	t.Log("after a fresh start:", counts)
	for _, h := range s.Servers {
		require.InDelta(t, 10, counts[h.Name], 2, h.Name)
	}

	require.NoError(t, procs[0].Kill())
	s.eventually(soon, func() error {
		if n := len(s.bound(t.Context())); n == 30 {
			return nil // not gone yet, or taken over already
		}
		return errors.New("the dead one's addresses are still to be taken over")
	})
	s.eventually(2*soon, func() error {
		for _, hosts := range s.bound(t.Context()) {
			if hosts[0] == procs[0].Host {
				return errors.New("the dead one still has addresses")
			}
		}
		return s.allBound()
	})
	counts = s.spread()
	t.Log("after the death of one:", counts)
	for _, p := range procs[1:] {
		require.InDelta(t, 15, counts[p.Host.Name], 3, p.Host.Name)
	}
}

// TestPin moves an address by a key, as an operator does, and nothing exits.
func TestPin(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	pin := s.name + "/" + s.vip.String() + "/pin"
	kv := s.asked.API.KV()
	for _, p := range []*lab.Process{procs[2], procs[1]} {
		_, err := kv.Put(&api.KVPair{Key: pin, Value: []byte(p.Host.Name)}, nil)
		require.NoError(t, err)
		s.eventually(soon, func() error { return s.ownedBy(p.Host) })
	}

	// It stays without an owner rather than go elsewhere.
	require.NoError(t, procs[1].Signal(syscall.SIGTERM))
	s.exits(procs[1], 0, 4*time.Second)
	s.elapse(within)
	require.Empty(t, s.bound(t.Context()))
	_, err := kv.Delete(pin, nil)
	require.NoError(t, err)
	s.takenOver(procs[1].Host)
	require.True(t, procs[0].Running() && procs[2].Running())
}

func TestPreempt(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	preempt := func(priority int) config {
		return config{vip: fmt.Sprintf("  priority = %d\n  preempt = true\n  preempt_delay = \"1s\"", priority)}
	}
	low := s.startOn(preempt(200), s.Servers[0])[0]
	high := s.start(s.Servers[1], preempt(50))
	s.eventually(soon, func() error { return s.ownedBy(high.Host) })
	require.True(t, low.Running())
	require.NoError(t, high.Signal(syscall.SIGTERM))
	s.exits(high, 0, 4*time.Second)
	s.eventually(soon, func() error { return s.ownedBy(low.Host) })
}

// TestCarrierLost takes the owner's cable out. Its Consul is behind the same
// cable here, so the others have to find out by themselves.
func TestCarrierLost(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	h1 := procs[0].Host
	s.unplug(h1, "eth0")
	s.asked = s.cluster.Servers[1]
	next := s.takenOver(h1)
	require.NoError(t, h1.Plug("eth0"))
	// The Consul that comes back still takes the others for failed and says so.
	// They may deny it too late for the owner's session.
	s.eventually(2*soon, func() error { return s.cluster.WaitReady(context.Background()) })
	s.eventually(soon, s.allBound)
	for _, p := range procs[1:] {
		switch {
		case !p.Running():
			s.exits(p, 4, within)
		case p.Host == next:
			require.NoError(t, s.ownedBy(next), "the address does not go back to who has a cable again")
		}
	}
}

// TestCarrierLostHandsOver takes out the cable of the address alone: Consul can be
// reached by another.
func TestCarrierLostHandsOver(t *testing.T) {
	w := sharedWorld(t)
	for i, h := range w.Servers {
		addService(t, h, net.HardwareAddr{2, 0, 0, 0, 1, byte(1 + i)})
	}
	s := newScene(t, w)
	procs := s.startAll(config{vip: `  interface = "eth1"`})
	h1 := procs[0].Host
	s.unplug(h1, "eth1")
	next := s.takenOver(h1)
	require.Len(t, logged(procs[0], "handed over"), 1)
	for _, p := range procs {
		if p.Host == next {
			require.Empty(t, logged(p, "nobody answers for the address"), "it does not have to ask")
		}
	}
	require.NoError(t, h1.Plug("eth1"))
	s.eventually(soon, func() error { return s.enrolled(h1) })
	require.NoError(t, s.ownedBy(next), "the address does not go back to who has a cable again")
	require.True(t, procs[0].Running() && procs[1].Running() && procs[2].Running())
}

// unplug takes a cable out until the end of the test, and waits until the host
// has let go of the address.
func (s *scene) unplug(h *lab.Host, ifname string) {
	s.t.Helper()
	require.NoError(s.t, h.Unplug(ifname))
	s.t.Cleanup(func() { require.NoError(s.t, h.Plug(ifname)) })
	s.eventually(soon, func() error {
		if owns, err := h.Owns(s.t.Context(), s.vip); err != nil || owns {
			return errors.Join(err, errors.New("the address is still bound"))
		}
		return nil
	})
}

// addService gives a host an interface eth1 for the address alone, until the end
// of the test.
func addService(t *testing.T, h *lab.Host, mac net.HardwareAddr) {
	t.Helper()
	require.NoError(t, h.AddInterface("eth1", mac))
	t.Cleanup(func() { require.NoError(t, h.RemoveInterface("eth1")) })
	// Only the interface that has an address answers for it.
	require.NoError(t, h.SetSysctl("net/ipv4/conf/all/arp_ignore", "1"))
	t.Cleanup(func() { require.NoError(t, h.SetSysctl("net/ipv4/conf/all/arp_ignore", "0")) })
}
