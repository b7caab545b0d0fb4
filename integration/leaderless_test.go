package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// consulDefault is Consul's default raft_multiplier. With it, a cluster whose leader was
// killed has no leader for 12 s and more.
const consulDefault = 5

// TestPausedWithoutLeader stops the owner's process for some moments while Consul has no
// leader. Its session lasts for longer than that, and nothing moves.
func TestPausedWithoutLeader(t *testing.T) {
	cluster := lab.Clients.Cluster()
	cluster.RaftMultiplier = consulDefault
	w := ownLab(t, cluster)
	for _, paused := range []time.Duration{500 * time.Millisecond, time.Second, 1500 * time.Millisecond} {
		t.Run(fmt.Sprint(paused), func(t *testing.T) {
			s := newSceneIn(t, w)
			c := byDefault
			c.sessionTTL = 30 * time.Second
			procs := s.startAll(c)
			tenure := s.tenure(procs[0])
			began := time.Now()
			s.killLeader()
			for range 3 { // the moment of its next refresh is not known
				s.freeze(procs[0])
				s.pass(paused)
				s.signal(procs[0], syscall.SIGCONT)
				s.pass(500 * time.Millisecond)
			}
			s.leaderBack()
			t.Logf("Consul had no leader for %v", time.Since(began))
			s.pass(sessionTTL)
			tenure.unbroken()
			s.seen(procs[0].Host)
			s.running(procs...)
		})
	}
}

// killLeader kills Consul's leader until the end of the test, and makes the test ask
// another server.
func (s *scene) killLeader() {
	s.t.Helper()
	var leader *lab.ConsulAgent
	s.retry("asking for the leader", func() (err error) {
		leader, err = s.Cluster.Leader()
		return err
	})
	for _, server := range s.Cluster.Servers {
		if server != leader {
			s.server = server
		}
	}
	s.killConsul(leader.Host)
}

// leaderBack waits until Consul has a leader again, with its default timing.
func (s *scene) leaderBack() {
	s.t.Helper()
	s.awaitWithin(time.Minute, condition{"Consul to have a leader again", func() error {
		_, err := s.server.API.KV().Put(&api.KVPair{Key: "leader-is-back"}, nil)
		return err
	}})
}
