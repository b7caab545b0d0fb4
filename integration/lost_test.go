package integration

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestLockLost takes the lock from its owner in every way that Consul knows.
func TestLockLost(t *testing.T) {
	t.Parallel()
	tests := map[string]func(s *scene){
		"session destroyed": (*scene).destroySession,
		"key deleted": func(s *scene) {
			s.consulCLI(s.Servers[2], "kv", "delete", s.name+"/"+lockKey(s.vip))
		},
		"key overwritten": func(s *scene) {
			s.consulCLI(s.Servers[2], "kv", "put", s.name+"/"+lockKey(s.vip), "mine")
		},
		"key released by another program": func(s *scene) {
			session := s.session()
			s.retry("releasing the lock", func() error {
				_, _, err := s.server.API.KV().Release(&api.KVPair{Key: s.name + "/" + lockKey(s.vip), Session: session}, nil)
				return err
			})
		},
	}
	for name, take := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			p := s.startAll(config{})[0]
			h1 := p.Host
			began := time.Now()
			take(s)
			s.exits(p, 4, soon)
			s.holds(s.notOn(h1))
			t.Logf("the last answer came %v after the lock was taken", s.client.Report().Owned[0].Last.Sub(began))
			s.seen(h1, s.takenOver(h1))
		})
	}
}

// TestOnLossContend deletes the lock of an owner that is configured to contend again.
func TestOnLossContend(t *testing.T) {
	s := newScene(t)
	procs := s.startAll(config{vip: `on_loss = "contend"`})
	s.consulCLI(procs[0].Host, "kv", "delete", s.name+"/"+lockKey(s.vip))
	s.await(logs(procs[0], "released the address", 1))
	s.owner()
	s.running(procs...)
}

// TestOnLossContendWithoutSession destroys the session of such an owner. Its
// process ends all the same: all of its addresses are lost.
func TestOnLossContendWithoutSession(t *testing.T) {
	s := newScene(t)
	p := s.startAll(config{vip: `on_loss = "contend"`})[0]
	s.destroySession()
	s.exits(p, 4, soon)
	s.seen(p.Host, s.takenOver(p.Host))
}

// TestConsulLock has "consul lock" contend for the same lock. Each waits for the
// other.
func TestConsulLock(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	ours := s.startOn(config{}, h1)[0]
	tenure := s.tenure(ours)

	lock := s.startConsulLock(h3)
	s.pass(calm)
	tenure.unbroken()

	s.stop(ours)
	s.await(lock.holds())
	standby := s.start(h2, config{})
	s.await(inState(standby, "standby"))
	s.pass(calm)
	s.holds(s.unbound())
	row := s.status(h1)
	s.Equal("foreign", row["state"])
	s.Equal(s.session(), row["session"])
	s.Equal(h3.Name, row["node"])

	lock.release()
	s.awaitWithin(2*soon, s.ownedBy(h2))
	s.seen(h1, h2)
}

// TestCutOff cuts the owner off from Consul, in both worlds at the same time. It lets go of
// the address at its hold deadline, and no successor has the address before.
func TestCutOff(t *testing.T) {
	t.Run(string(lab.ServersOnHosts), func(t *testing.T) {
		t.Parallel()
		for _, role := range []string{"follower", "leader"} {
			t.Run("with a "+role, func(t *testing.T) {
				s := newScene(t)
				hosts := s.byRole(role)
				s.server = s.Cluster.Of(hosts[1])
				s.expiresWhenCutOff(hosts)
			})
		}
	})
	t.Run(string(lab.Clients), func(t *testing.T) {
		t.Parallel()
		for _, f := range families {
			t.Run(f.name, func(t *testing.T) {
				s := newSceneOfFamily(t, sharedLabOf(t, lab.Clients), f)
				s.expiresWhenCutOff(s.Servers)
			})
		}
	})
}

// expiresWhenCutOff cuts the first host off from Consul while it is the owner.
func (s *scene) expiresWhenCutOff(hosts []*lab.Host) {
	s.t.Helper()
	owner := hosts[0]
	p := s.startOn(config{deadMan: longDeadMan}, hosts...)[0]
	s.cutOff(owner)
	began := time.Now()
	s.expires(p)
	s.holds(s.notOn(owner))
	released := logged(p, "released the address")
	s.Len(released, 1)
	s.t.Logf("unbound %v after the cut, of at most %v", released[0].Time().Sub(began), holdTime)
	s.seen(owner, s.takenOver(owner))
}

// cutOff cuts a host off from the Consul servers of the others until the end of
// the test.
func (s *scene) cutOff(h *lab.Host) {
	s.t.Helper()
	s.NoError(h.CutOff(s.t.Context()))
	s.t.Cleanup(func() {
		s.NoError(h.Heal(context.Background()))
		s.consulReady()
	})
}

// byRole returns the hosts, first one whose Consul server has this role now.
func (s *scene) byRole(role string) []*lab.Host {
	s.t.Helper()
	var leader *lab.ConsulAgent
	s.retry("asking for the leader", func() (err error) {
		leader, err = s.Cluster.Leader()
		return err
	})
	hosts := slices.DeleteFunc(slices.Clone(s.Servers), func(h *lab.Host) bool { return h == leader.Host })
	if role == "leader" {
		return append([]*lab.Host{leader.Host}, hosts...)
	}
	return append(hosts, leader.Host)
}
