package integration

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// retries is how many requests prove that an instance goes on asking.
const retries = 3

// frontPort is where a front between consul-vip and its Consul agent listens.
const frontPort = 8501

// front starts a front on a host.
func (s *scene) front(h *lab.Host) *lab.Front {
	s.t.Helper()
	f, err := h.NewFront(frontPort)
	s.NoError(err)
	s.t.Cleanup(func() { s.NoError(f.Close()) })
	return f
}

// viaFront is the configuration of an instance that asks Consul through the front.
var viaFront = config{consul: fmt.Sprintf("  address = \"127.0.0.1:%d\"", frontPort)}

// replaced is met when the front has answered so many requests in place of Consul.
func replaced(f *lab.Front, times int) condition {
	return condition{fmt.Sprintf("%d requests answered in place of Consul", times), func() error {
		if n := f.Replaced(); n < times {
			return fmt.Errorf("%d", n)
		}
		return nil
	}}
}

// expires requires that an owner without Consul ends at its hold deadline, because
// its session is lost. If it got no CPU for a quarter of a second in the first moment,
// it loses the address before, and the claim of its successor ends it: that is a
// conflict.
func (s *scene) expires(p *lab.Process) {
	s.t.Helper()
	s.awaitWithin(holdTime+slack, ended(p))
	code := 4
	if mentioned(p, "the process was paused") > 0 && mentioned(p, "address conflict") > 0 {
		mac := logged(p, "address conflict")[0].Get("mac")
		s.True(slices.ContainsFunc(s.Servers, func(h *lab.Host) bool { return h.MAC.String() == mac }), "%s is not the successor", mac)
		s.t.Log("the owner was paused and heard its successor")
		code = 5
	}
	s.exits(p, code, 0)
}

// TestStandbySurvivesBadAnswers has a standby's Consul agent answer everything that
// a proxy or an agent in trouble does. Then the standby still takes over.
func TestStandbySurvivesBadAnswers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	owner := s.startOn(config{}, h1)[0]
	f := s.front(h2)
	standby := s.startStandby(h2, viaFront)

	for _, bad := range []struct {
		status            int
		contentType, body string
	}{
		{http.StatusInternalServerError, "text/plain", "No cluster leader"},
		{http.StatusTooManyRequests, "text/plain", "Your IP is issuing too many concurrent connections"},
		{http.StatusOK, "text/html", "<html><body>Please log in</body></html>"},
		{http.StatusOK, "application/json", "\x00garbage"},
		{http.StatusOK, "application/json", ""},
		{http.StatusOK, "application/json", "null"},
	} {
		f.Answer(bad.status, bad.contentType, bad.body)
		s.await(replaced(f, retries))
		f.PassOn()
		s.await(s.memberOn(h2))
		s.True(standby.Running(), "it must go on after %d %q", bad.status, bad.body)
	}
	complaints := 0
	for _, e := range standby.Entries() {
		if level := e.Get("@level"); level == "warn" || level == "error" {
			complaints++
		}
	}
	t.Logf("%d complaints in the log", complaints)

	s.stop(owner)
	s.awaitWithin(2*soon, s.ownedBy(h2))
	s.seen(h1, h2)
}

// TestStandbyWaitsForConsul starts an instance before its Consul agent.
func TestStandbyWaitsForConsul(t *testing.T) {
	s := newScene(t)
	h1 := s.Servers[0]
	p := s.start(h1, viaFront)
	s.await(outputs(p, "connection refused"))
	s.pass(calm)
	s.running(p)
	s.front(h1)
	s.await(s.ownedBy(h1))
}

// TestOwnerSurvivesShortOutage has the owner's Consul agent fail for a moment. The
// long check keeps a slow machine from making it a long one.
func TestOwnerSurvivesShortOutage(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	f, c := s.front(h1), viaFront
	c.sessionTTL, c.deadMan = 2*sessionTTL, 12*time.Second
	c.consul += "\n  check_ttl = \"10s\""
	p := s.startOn(c, h1)[0]
	s.startStandby(h2, config{})
	tenure := s.tenure(p)
	f.Answer(http.StatusInternalServerError, "text/plain", "No cluster leader")
	s.await(replaced(f, 1))
	f.PassOn()
	s.pass(2 * sessionTTL)
	tenure.unbroken()
	s.seen(h1)
}

// TestOwnerExpiresInOutage has the owner's Consul agent fail for good. The address
// stays up until the hold deadline, and the successor waits for it.
func TestOwnerExpiresInOutage(t *testing.T) {
	s := newScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	f := s.front(h1)
	c := viaFront
	c.deadMan = longDeadMan
	p := s.startOn(c, h1)[0]
	s.startStandby(h2, config{})
	f.Answer(http.StatusOK, "text/html", "<html><body>Please log in</body></html>")
	began := time.Now()
	s.expires(p)
	kept := time.Since(began)
	s.Greater(kept, holdTime/2, "the owner must not let go as soon as Consul fails")
	t.Logf("it ended %v after Consul", kept)
	s.holds(s.notOn(h1))
	s.await(s.ownedBy(h2))
	s.seen(h1, h2)
}

// TestConsulAgentDies kills the Consul agent of the owner's host for good. When Consul
// has declared the host failed, the successor still waits for the owner.
func TestConsulAgentDies(t *testing.T) {
	s := newScene(t)
	p := s.startAll(config{deadMan: longDeadMan})[0]
	h1 := p.Host
	s.server = s.Cluster.Servers[1]
	began := time.Now()
	s.killConsul(h1)
	s.expires(p)
	t.Logf("the address was gone %v after the agent", time.Since(began))
	s.holds(s.notOn(h1))
	s.seen(h1, s.takenOver(h1))
}

// killConsul kills the Consul agents of some hosts, until revive or the end of the
// test.
func (s *scene) killConsul(hosts ...*lab.Host) (revive func()) {
	s.t.Helper()
	dead := true
	revive = func() {
		if !dead {
			return
		}
		dead = false
		for _, h := range hosts {
			s.NoError(s.Cluster.Of(h).Start())
		}
		s.consulReady()
	}
	for _, h := range hosts {
		s.NoError(s.Cluster.Of(h).Kill())
	}
	s.t.Cleanup(revive)
	return revive
}

// TestQuorumLost takes Consul's quorum away. The owner lets go at its hold deadline;
// the standbys, which have lost their agents, contend again when Consul is back.
func TestQuorumLost(t *testing.T) {
	s := newScene(t)
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	procs := s.startOn(config{deadMan: longDeadMan}, h1, h2, h3)
	began := time.Now()
	revive := s.killConsul(h2, h3)
	s.expires(procs[0])
	t.Logf("the address was gone %v after Consul's quorum", time.Since(began))
	s.holds(s.notOn(h1))
	revive()
	s.seen(h1, s.takenOver(h1))
	s.running(procs[1:]...)
}

// TestConsulRestart restarts the Consul agents of the standbys, one by one. The
// owner keeps the address, and the standbys remain able to take it.
func TestConsulRestart(t *testing.T) {
	s := newScene(t)
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	p := s.startOn(config{}, h1, h2, h3)[0]
	tenure := s.tenure(p)
	for _, h := range []*lab.Host{h2, h3} {
		s.killConsul(h)()
	}
	tenure.unbroken()
	s.seen(h1)
	s.await(s.memberOn(h2))
	s.await(s.memberOn(h3))
	s.stop(p)
	s.seen(h1, s.takenOver(h1))
}

// TestLeaderCrash kills the leader of a cluster with Consul's default timing,
// which then has no leader for 12 s and more. Nothing may move. The session and the
// lifetime of the address are longer than that.
func TestLeaderCrash(t *testing.T) {
	t.Parallel()
	w := ownLab(t, lab.ClusterConfig{RaftMultiplier: consulDefault})
	s := newSceneIn(t, w)
	hosts := s.byRole("follower")
	owner := hosts[0]
	s.server = w.Cluster.Of(owner)
	procs := s.startOn(config{sessionTTL: 30 * time.Second, deadMan: 25 * time.Second}, hosts...)
	tenure := s.tenure(procs[0])

	s.NoError(s.leaderOffHost(owner).Kill())
	began := time.Now()
	s.leaderBack()
	t.Logf("Consul had no leader for %v", time.Since(began))
	s.pass(sessionTTL)
	tenure.unbroken()
	s.seen(owner)
	s.running(procs...)
}

// leaderOffHost returns Consul's leader. If leadership has moved to this host
// meanwhile, it is moved on.
func (s *scene) leaderOffHost(h *lab.Host) (leader *lab.ConsulAgent) {
	s.t.Helper()
	s.retry("finding a leader other than on "+h.Name, func() (err error) {
		if leader, err = s.Cluster.Leader(); err == nil && leader.Host == h {
			_, err = leader.API.Operator().RaftLeaderTransfer("", nil)
			return errors.Join(err, errors.New("moving on"))
		}
		return err
	})
	return leader
}
