package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// maxConnections is how many connections an instance may have to its Consul agent.
const maxConnections = 5

// TestHundredAddresses moves a hundred addresses of each family from one host to the next.
func TestHundredAddresses(t *testing.T) {
	s := newSceneOf(t, 200*time.Millisecond, hundreds(8)...)
	began := time.Now()
	procs := s.startOnEach()
	s.await(s.upWithFewConnections(procs))
	t.Logf("all up after %v", time.Since(began))

	for _, p := range procs[:2] {
		began = time.Now()
		s.stop(p)
		s.await(s.upWithFewConnections(procs))
		t.Logf("all moved %v after SIGTERM to %s", time.Since(began), p.Host.Name)
		s.await(s.allOnOthers(p.Host))
	}
	s.await(s.allOn(procs[2].Host, s.vips...))
	s.settled()
}

// upWithFewConnections is met when every address is bound. On the way it fails the
// test if an instance has too many connections.
func (s *scene) upWithFewConnections(procs []*lab.Process) condition {
	all := s.allBound()
	return condition{all.expected, func() error {
		for _, p := range procs {
			if n, err := p.Connections(lab.ConsulPort); p.Running() && err == nil {
				s.LessOrEqual(n, maxConnections, "connections of %s", p.Host.Name)
			}
		}
		return all.seen()
	}}
}

// TestFreshStartSpreads starts three instances together: each takes its share of
// the addresses.
func TestFreshStartSpreads(t *testing.T) {
	s := newSceneOf(t, 100*time.Millisecond, addrs(9, 1, 30)...)
	s.spreads(10, 2, s.startOnEach)
}

// TestDeadHostSpreads kills one of three instances: the others share its addresses.
func TestDeadHostSpreads(t *testing.T) {
	s := newSceneOf(t, 100*time.Millisecond, addrs(9, 1, 30)...)
	s.spreads(15, 3, func() []*lab.Process {
		procs := s.startOnEach()
		s.settled()
		s.NoError(procs[0].Kill())
		s.awaitWithin(2*soon, s.allOnOthers(procs[0].Host))
		return procs[1:]
	})
}

// startOnEach starts an instance on every host.
func (s *scene) startOnEach() (procs []*lab.Process) {
	s.t.Helper()
	for _, h := range s.Servers {
		procs = append(procs, s.start(h, config{}))
	}
	return procs
}

// spreads requires that each of the instances that begin returns has about as many
// addresses as expected. Instances give each other a second to appear, and a tenth
// of a second to go first. A Consul that needs longer for a write spoils that now
// and then, but not five times in a row.
func (s *scene) spreads(expected, delta int, begin func() []*lab.Process) {
	s.t.Helper()
	var counts map[string]int
	for range 5 {
		procs := begin()
		counts = s.spread()
		s.t.Log(counts)
		even := true
		for _, p := range procs {
			off := counts[p.Host.Name] - expected
			even = even && max(off, -off) <= delta
		}
		if even {
			return
		}
		for _, p := range procs {
			s.stop(p)
		}
	}
	s.FailNow(fmt.Sprintf("expected %d addresses on each host, give or take %d, saw %v", expected, delta, counts))
}
