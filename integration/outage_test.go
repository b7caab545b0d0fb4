package integration

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// retries is how many requests prove that an instance goes on asking.
const retries = 3

// frontPort is where a front between consul-vip and its Consul agent listens.
const frontPort = 8501

// front starts a front on a host and returns the configuration that asks it.
func (s *scene) front(h *lab.Host) (*lab.Front, config) {
	s.t.Helper()
	f, err := h.NewFront(frontPort)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, f.Close()) })
	return f, asking(frontPort)
}

// asking returns a configuration that asks Consul at a port of its own host.
func asking(port int) config {
	return config{consul: fmt.Sprintf("  address = \"127.0.0.1:%d\"", port)}
}

// replaced objects until the front has answered some requests wrongly.
func replaced(f *lab.Front) error {
	if n := f.Replaced(); n < retries {
		return fmt.Errorf("only %d requests since", n)
	}
	return nil
}

// TestStandbySurvivesBadAnswers has a standby's Consul agent answer everything that
// a proxy or an agent in trouble does.
func TestStandbySurvivesBadAnswers(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1, h2 := s.Servers[0], s.Servers[1]
	owner := s.startOn(config{}, h1)[0]
	f, c := s.front(h2)
	standby := s.start(h2, c)
	s.eventually(soon, func() error { return inState(standby, "standby") })
	s.eventually(soon, func() error { return s.enrolled(h2) })

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
		s.eventually(2*soon, func() error { return replaced(f) })
		f.PassOn()
		s.eventually(2*soon, func() error { return s.enrolled(h2) })
		require.True(t, standby.Running(), "after %d %q", bad.status, bad.body)
	}
	complaints := 0
	for _, e := range standby.Entries() {
		if level := e.Get("@level"); level == "warn" || level == "error" {
			complaints++
		}
	}
	t.Logf("%d complaints in the log", complaints)

	require.NoError(t, owner.Signal(syscall.SIGTERM))
	s.exits(owner, 0, 4*time.Second)
	s.eventually(2*soon, func() error { return s.ownedBy(h2) })
	s.seen(h1, h2)
}

// TestStandbyWaitsForConsul starts an instance before its Consul agent.
func TestStandbyWaitsForConsul(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1 := s.Servers[0]
	p := s.start(h1, asking(frontPort))
	s.eventually(soon, func() error {
		if !strings.Contains(p.String(), "connection refused") {
			return errors.New("it has not tried yet")
		}
		return nil
	})
	s.elapse(time.Second)
	require.True(t, p.Running())
	s.front(h1)
	s.eventually(2*soon, func() error { return s.ownedBy(h1) })
}

// TestHolderRidesOut has the owner's Consul agent fail for a moment.
func TestHolderRidesOut(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1, h2 := s.Servers[0], s.Servers[1]
	f, c := s.front(h1)
	p := s.startOn(c, h1)[0]
	standby := s.start(h2, config{})
	s.eventually(soon, func() error { return inState(standby, "standby") })
	f.Answer(http.StatusInternalServerError, "text/plain", "No cluster leader")
	s.eventually(within, func() error {
		if f.Replaced() == 0 {
			return errors.New("it has not asked yet")
		}
		return nil
	})
	f.PassOn()
	s.elapse(fence + time.Second)
	require.NoError(t, s.ownedBy(h1))
	require.NoError(t, inState(p, "active"))
	s.seen(h1)
	require.Zero(t, s.ping.Report().Lost)
}

// TestHolderLetsGo has the owner's Consul agent fail for good. Its address stays
// up until the hold deadline, and the successor waits for it.
func TestHolderLetsGo(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1, h2 := s.Servers[0], s.Servers[1]
	f, c := s.front(h1)
	p := s.startOn(c, h1)[0]
	standby := s.start(h2, config{})
	s.eventually(soon, func() error { return inState(standby, "standby") })
	f.Answer(http.StatusOK, "text/html", "<html><body>Please log in</body></html>")
	s.exits(p, 4, fence+within)
	s.unboundOn(h1)
	s.eventually(soon, func() error { return s.ownedBy(h2) })
	s.seen(h1, h2)
}

// TestAgentDies kills the Consul agent of the owner's host for good. When Consul
// has declared the host failed, the successor still has to wait for the address.
func TestAgentDies(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	h1 := procs[0].Host
	s.asked = s.cluster.Servers[1]
	t.Cleanup(s.ready)
	t.Cleanup(func() { require.NoError(t, s.cluster.Of(h1).Start()) })
	began := time.Now()
	require.NoError(t, s.cluster.Of(h1).Kill())
	s.exits(procs[0], 4, fence+within)
	t.Logf("the address was gone %v after the agent", time.Since(began).Round(time.Millisecond))
	s.unboundOn(h1)
	s.seen(h1, s.takenOver(h1))
}

// TestLeaderless takes Consul's quorum away. The owner lets go at its hold deadline;
// the standbys, one of them without an agent, contend again when Consul is back.
func TestLeaderless(t *testing.T) {
	w := sharedWorld(t)
	s := newScene(t, w)
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	procs := s.startOn(config{}, h1, h2, h3)
	began := time.Now()
	for _, h := range []*lab.Host{h2, h3} {
		require.NoError(t, w.cluster.Of(h).Kill())
	}
	s.exits(procs[0], 4, fence+within)
	t.Logf("the address was gone %v after Consul's quorum", time.Since(began).Round(time.Millisecond))
	s.unboundOn(h1)
	for _, h := range []*lab.Host{h2, h3} {
		require.NoError(t, w.cluster.Of(h).Start())
	}
	s.ready()
	s.seen(h1, s.takenOver(h1))
	require.True(t, procs[1].Running())
	require.True(t, procs[2].Running())
}

// TestConsulRestart restarts the Consul agents of the standbys, one by one.
func TestConsulRestart(t *testing.T) {
	w := sharedWorld(t)
	s := newScene(t, w)
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	procs := s.startOn(config{}, h1, h2, h3)
	for _, h := range []*lab.Host{h2, h3} {
		require.NoError(t, w.cluster.Of(h).Kill())
		require.NoError(t, w.cluster.Of(h).Start())
		s.ready()
	}
	require.NoError(t, s.ownedBy(h1))
	s.seen(h1)
	for _, h := range []*lab.Host{h2, h3} {
		s.eventually(2*soon, func() error { return s.enrolled(h) })
	}
	require.NoError(t, procs[0].Signal(syscall.SIGTERM))
	s.exits(procs[0], 0, 4*time.Second)
	s.seen(h1, s.takenOver(h1))
}

// TestLeaderCrash kills the leader of a cluster with Consul's default timing,
// which then has no leader for 12 s and more. Nothing may move.
func TestLeaderCrash(t *testing.T) {
	const consulDefault = 5
	w, err := newWorld(lab.ClusterConfig{RaftMultiplier: consulDefault})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.close()) })
	s := newScene(t, w)
	leader, err := w.cluster.Leader()
	require.NoError(t, err)
	var hosts []*lab.Host
	for _, h := range s.Servers {
		if h != leader.Host {
			hosts = append(hosts, h)
		}
	}
	owner := hosts[0]
	s.asked = w.cluster.Of(owner)
	procs := s.startOn(config{sessionTTL: 30 * time.Second}, append(hosts, leader.Host)...)

	require.NoError(t, leader.Kill())
	began := time.Now()
	s.eventually(time.Minute, func() error {
		_, err := s.asked.API.KV().Put(&api.KVPair{Key: "leader-is-back"}, nil)
		return err
	})
	t.Logf("Consul had no leader for %v", time.Since(began))
	s.elapse(sessionTTL)
	require.NoError(t, s.ownedBy(owner))
	s.seen(owner)
	for _, p := range procs {
		require.True(t, p.Running(), "%s must go on", p.Host.Name)
	}
	require.Less(t, s.ping.Report().Longest().Length(), time.Second)
}
