package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// What an operator does by writing and deleting keys, as "consul kv put" does.

// put writes a key below the prefix.
func (s *scene) put(key, value string) {
	s.t.Helper()
	_, err := s.asked.API.KV().Put(&api.KVPair{Key: s.name + "/" + key, Value: []byte(value)}, nil)
	require.NoError(s.t, err)
}

// remove deletes a key below the prefix.
func (s *scene) remove(key string) {
	s.t.Helper()
	_, err := s.asked.API.KV().Delete(s.name+"/"+key, nil)
	require.NoError(s.t, err)
}

// hasNothing objects while a host has any of the addresses, or one is not bound
// exactly once.
func (s *scene) hasNothing(h *lab.Host) error {
	for vip, hosts := range s.bound(s.t.Context()) {
		if slices.Contains(hosts, h) {
			return fmt.Errorf("%s has %s", h.Name, vip)
		}
	}
	return s.allBound()
}

// stop stops an instance and waits until all addresses are bound again.
func (s *scene) stop(p *lab.Process) {
	s.t.Helper()
	require.NoError(s.t, p.Signal(syscall.SIGTERM))
	s.exits(p, 0, 4*time.Second)
	s.eventually(soon, func() error { return s.hasNothing(p.Host) })
}

// indexes returns where the lock of each address was written last.
func (s *scene) indexes() map[netip.Addr]uint64 {
	s.t.Helper()
	indexes := make(map[netip.Addr]uint64)
	for _, vip := range s.vips {
		pair, _, err := s.record(vip)
		require.NoError(s.t, err)
		indexes[vip] = pair.ModifyIndex
	}
	return indexes
}

// others returns what requires that the addresses that this host does not have
// now have been left alone: no write to the lock, no other owner, nobody else
// who announced.
func (s *scene) others(h *lab.Host) (untouched func()) {
	s.t.Helper()
	before, owners := s.indexes(), make(map[netip.Addr]*lab.Host)
	for vip, hosts := range s.bound(s.t.Context()) {
		if hosts[0] != h {
			owners[vip] = hosts[0]
		}
	}
	require.NotEmpty(s.t, owners)
	return func() {
		s.t.Helper()
		now := s.indexes()
		for vip, owner := range owners {
			require.Equal(s.t, before[vip], now[vip], "the lock of %s", vip)
			require.Equal(s.t, []string{owner.Name}, lab.HostsOf(s.witness.Owned(vip)), "owners of %s", vip)
			require.Equal(s.t, []string{owner.Name}, lab.HostsOf(s.witness.Announced(vip)), "who announced %s", vip)
		}
	}
}

// allAnnounced objects unless the observer heard and asked for every address.
func (s *scene) allAnnounced() error {
	for _, vip := range s.vips {
		if len(s.witness.Announced(vip)) == 0 || len(s.witness.Owned(vip)) == 0 {
			return fmt.Errorf("nobody has announced %s", vip)
		}
	}
	return nil
}

// TestDrainKey drains the owner of some of several addresses.
func TestDrainKey(t *testing.T) {
	var vips []netip.Addr
	for i := range 6 {
		vips = append(vips, netip.AddrFrom4([4]byte{10, 77, 11, byte(1 + i)}))
	}
	s := newSceneOf(t, sharedWorld(t), 50*time.Millisecond, vips...)
	procs := make(map[*lab.Host]*lab.Process)
	for _, h := range s.Servers {
		procs[h] = s.start(h, config{})
	}
	s.eventually(2*soon, s.allBound)
	s.eventually(soon, s.allAnnounced)
	h := s.bound(t.Context())[s.vip][0]
	rest := slices.DeleteFunc(slices.Clone(s.Servers), func(other *lab.Host) bool { return other == h })

	untouched := s.others(h)
	s.put(".drain/"+h.Name, `{"at":"2026-11-22T05:11:37Z"}`)
	s.eventually(soon, func() error { return s.hasNothing(h) })
	s.elapse(within)
	untouched()
	for _, p := range procs {
		require.True(t, p.Running(), p.Host.Name)
	}

	// A restart does not change it.
	s.stop(procs[h])
	procs[h] = s.start(h, config{})
	s.eventually(soon, func() error {
		if n := len(logged(procs[h], "not contending")); n != len(vips) {
			return fmt.Errorf("it does not contend for %d addresses", n)
		}
		return s.enrolled(h)
	})
	s.stop(procs[rest[0]])
	s.elapse(within)
	require.NoError(t, s.hasNothing(h))

	// Undrained, it takes nothing back, but what it is given.
	before := s.indexes()
	s.remove(".drain/" + h.Name)
	s.elapse(within)
	require.Equal(t, before, s.indexes())
	s.stop(procs[rest[1]])
	require.Equal(t, map[string]int{h.Name: len(vips)}, s.spread())
}

// TestReleaseKey asks the owner for the address: it hands it over while it can,
// and lets go of it for "consul lock" where it cannot.
func TestReleaseKey(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	request := s.vip.String() + "/release"
	h1 := procs[0].Host
	s.put(request, procs[1].Host.Name)
	s.elapse(time.Second)
	require.NoError(t, s.ownedBy(h1), "somebody else was asked")
	s.put(request, h1.Name)
	next := s.takenOver(h1)
	s.taken(request)

	for _, p := range procs {
		if p.Host != next {
			require.NoError(t, p.Signal(syscall.SIGTERM))
			s.exits(p, 0, 4*time.Second)
		}
	}
	require.NoError(t, s.ownedBy(next))
	lock := s.consulLock(h1)
	s.eventually(soon, lock.waits)
	s.put(request, next.Name)
	s.eventually(soon, lock.holds)
	s.taken(request)
	require.NoError(t, s.unbound(t.Context()))
	lock.end()
	s.eventually(2*soon, func() error { return s.ownedBy(next) })
	s.seen(h1, next)
}

// taken requires that a key is gone.
func (s *scene) taken(key string) {
	s.t.Helper()
	pair, _, err := s.asked.API.KV().Get(s.name+"/"+key, &api.QueryOptions{RequireConsistent: true})
	require.NoError(s.t, err)
	require.Nil(s.t, pair, key)
}

// TestPinToNobody is how "consul lock" gets the address for sure.
func TestPinToNobody(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	pin := s.vip.String() + "/pin"
	s.put(pin, "-")
	s.eventually(soon, func() error {
		pair, r, err := s.record(s.vip)
		if err != nil || pair.Session != "" || r.State != "released" {
			return errors.Join(err, fmt.Errorf("the record is %+v", r))
		}
		return nil
	})
	require.NoError(t, s.unbound(t.Context()))
	s.elapse(within)
	require.NoError(t, s.unbound(t.Context()))

	lock := s.consulLock(procs[0].Host)
	s.eventually(soon, lock.holds)
	lock.end()
	s.eventually(soon, func() error {
		if lock.Running() {
			return errors.New("consul lock has not ended")
		}
		return nil
	})
	s.elapse(within)
	require.NoError(t, s.unbound(t.Context()))
	s.remove(pin)
	s.takenOver(nil)
	for _, p := range procs {
		require.True(t, p.Running(), p.Host.Name)
	}
}
