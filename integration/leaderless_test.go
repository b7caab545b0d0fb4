package integration

import (
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// consulDefault is Consul's default raft_multiplier. With it, a cluster whose leader was
// killed has no leader for 12 s and more.
const consulDefault = 5

// TestPausedWithoutLeader stops the processes of three owners for some moments while Consul
// has no leader, each for another time. Their sessions last for longer than that, and
// nothing moves.
func TestPausedWithoutLeader(t *testing.T) {
	t.Parallel()
	cluster := lab.Clients.Cluster()
	cluster.RaftMultiplier = consulDefault
	w := ownLab(t, cluster)
	var owners []*pausedOwner
	for _, d := range []time.Duration{500 * time.Millisecond, time.Second, 1500 * time.Millisecond} {
		owners = append(owners, newPausedOwner(newSceneIn(t, w), d))
	}
	began, leader := time.Now(), owners[0].killLeader()
	for range 3 { // the moment of an owner's next refresh is not known
		pauseAll(owners)
	}
	for _, o := range owners {
		o.useServerBut(leader)
		o.leaderBack()
	}
	t.Logf("Consul had no leader for %v", time.Since(began))
	owners[0].pass(sessionTTL)
	for _, o := range owners {
		t.Logf("%s was stopped for %v each time", o.vip, o.paused)
		o.tenure.unbroken()
		o.seen(o.procs[0].Host)
		o.running(o.procs...)
	}
}

// pausedOwner is a scene whose owner is stopped for a time, again and again.
type pausedOwner struct {
	*scene
	paused time.Duration
	procs  []*lab.Process // the first one is the owner
	tenure *tenure
}

// newPausedOwner starts the instances of a scene.
func newPausedOwner(s *scene, d time.Duration) *pausedOwner {
	s.t.Helper()
	c := byDefault
	c.sessionTTL = 30 * time.Second
	procs := s.startAll(c)
	return &pausedOwner{s, d, procs, s.tenure(procs[0])}
}

// pauseAll stops all owners, and lets each go on after its time, the shortest first.
func pauseAll(owners []*pausedOwner) {
	for _, o := range owners {
		o.freeze(o.procs[0])
	}
	began := time.Now()
	for _, o := range owners {
		o.pass(time.Until(began.Add(o.paused)))
		o.signal(o.procs[0], syscall.SIGCONT)
	}
	owners[0].pass(500 * time.Millisecond)
}

// killLeader kills Consul's leader until the end of the test, and returns the host that it
// was on.
func (s *scene) killLeader() *lab.Host {
	s.t.Helper()
	var leader *lab.ConsulAgent
	s.retry("asking for the leader", func() (err error) {
		leader, err = s.Cluster.Leader()
		return err
	})
	s.killConsul(leader.Host)
	return leader.Host
}

// leaderBack waits until Consul has a leader again, with its default timing.
func (s *scene) leaderBack() {
	s.t.Helper()
	s.awaitWithin(time.Minute, condition{"Consul to have a leader again", func() error {
		_, err := s.server.API.KV().Put(&api.KVPair{Key: "leader-is-back"}, nil)
		return err
	}})
}
