package integration

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestStart starts three instances: one owns the address, and the host, the wire,
// Consul and "status" all say so.
func TestStart(t *testing.T) {
	inFamilies(t, func(t *testing.T, s *scene, _ family) {
		h1 := s.startAll(config{})[0].Host
		s.settled()

		addrs, err := h1.Addresses(t.Context())
		s.NoError(err)
		s.Contains(addrs, lab.Address{Interface: "eth0", Prefix: prefixOf(s.vip)})

		var printed record
		s.NoError(json.Unmarshal([]byte(s.kvGet(h1)), &printed))
		pair, r := s.lockOf(s.vip)
		s.Equal(printed, r)
		s.Equal(h1.Name, r.Node)
		s.Equal("eth0", r.Interface)
		s.Equal(h1.MAC.String(), r.MAC)
		s.Equal(pair.Session, r.Session)
		s.WithinDuration(time.Now(), r.Since, time.Minute)
		s.EqualValues(api.LockFlagValue, pair.Flags)

		for _, h := range s.Servers {
			row := s.status(h)
			s.Equal("held", row["state"])
			s.Equal(h1.Name, row["node"])
			s.Equal("eth0", row["interface"])
			s.Equal(h1.MAC.String(), row["mac"])
		}
		s.seen(h1)
	})
}

// TestLeftover starts an instance where a killed one has left its address. The
// long lifetime keeps the kernel from removing the address first.
func TestLeftover(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1 := s.Servers[0]
	c := config{deadMan: longDeadMan}
	killed := s.startOn(c, h1)[0]
	events := s.monitor(h1)
	s.NoError(killed.Kill())
	s.holds(s.allOn(h1, s.vip))

	p := s.start(h1, c)
	s.await(logs(p, "removed an address left by a previous process", 1))
	s.await(removed(events, s.vip, true))
	s.awaitWithin(2*soon, s.ownedBy(h1))
	s.await(inState(p, "active"))
}

// TestForeignAddress starts an instance where another program has bound the
// address. The instance neither takes nor removes it.
func TestForeignAddress(t *testing.T) {
	s := newScene(t)
	h1 := s.Servers[0]
	s.NoError(h1.AddAddress("eth0", prefixOf(s.vip)))
	p := s.start(h1, config{})
	s.exits(p, 1, soon)
	s.Contains(p.String(), s.vip.String())
	s.NoError(h1.RemoveAddress("eth0", prefixOf(s.vip)), "the address must still be there")
	s.Nil(s.get(lockKey(s.vip)), "it must not contend")
}

// TestSecondInstance starts an instance where one runs. Neither takes the other for
// a dead one.
func TestSecondInstance(t *testing.T) {
	s := newScene(t)
	owner := s.startAll(config{})[0]
	tenure := s.tenure(owner)
	second := s.start(owner.Host, config{})
	s.exits(second, 1, soon)
	tenure.unbroken()
	s.seen(owner.Host)
}
