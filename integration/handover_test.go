package integration

import (
	"errors"
	"fmt"
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
	require.NoError(t, h1.Unplug("eth0"))
	t.Cleanup(func() { require.NoError(t, h1.Plug("eth0")) })
	s.eventually(soon, func() error {
		if owns, err := h1.Owns(t.Context(), s.vip); err != nil || owns {
			return errors.Join(err, errors.New("the address is still bound"))
		}
		return nil
	})
	s.asked = s.cluster.Servers[1]
	next := s.takenOver(h1)
	require.NoError(t, h1.Plug("eth0"))
	s.elapse(within)
	require.NoError(t, s.ownedBy(next), "it does not come back for having a cable again")
}
