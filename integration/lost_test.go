package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestLost takes the lock from its owner in every way that Consul knows.
func TestLost(t *testing.T) {
	tests := map[string]func(s *scene) error{
		"session destroyed": func(s *scene) error {
			_, err := s.asked.API.Session().Destroy(s.session(), nil)
			return err
		},
		"key deleted": func(s *scene) error {
			return s.consulCLI(s.Servers[2], "kv", "delete", s.key(s.vip))
		},
		"key overwritten": func(s *scene) error {
			return s.consulCLI(s.Servers[2], "kv", "put", s.key(s.vip), "mine")
		},
		"key released by somebody else": func(s *scene) error {
			_, _, err := s.asked.API.KV().Release(&api.KVPair{Key: s.key(s.vip), Session: s.session()}, nil)
			return err
		},
	}
	for name, take := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			procs := s.startAll(config{})
			h1 := procs[0].Host
			began := time.Now()
			require.NoError(t, take(s))
			s.exits(procs[0], 4, within)
			s.unboundOn(h1)
			reigns := s.ping.Report().Owned
			t.Logf("the last answer came %v after the lock was taken", reigns[0].Last.Sub(began))
			s.seen(h1, s.takenOver(h1))
		})
	}
}

// TestOnLossContend has the owner of a lost lock go on as one of many.
func TestOnLossContend(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{vip: `on_loss = "contend"`})
	h1 := procs[0].Host
	require.NoError(t, s.consulCLI(h1, "kv", "delete", s.key(s.vip)))
	s.eventually(within, func() error {
		if n := len(logged(procs[0], "released the address")); n != 1 {
			return errors.New("not released")
		}
		return nil
	})
	s.eventually(soon, func() error {
		if s.owner() == nil {
			return errors.New("nobody owns the address")
		}
		return nil
	})
	for _, p := range procs {
		require.True(t, p.Running(), "%s must go on contending", p.Host.Name)
	}

	// A lost session ends the process all the same.
	owner := s.owner()
	require.NotNil(t, owner)
	_, err := s.asked.API.Session().Destroy(s.session(), nil)
	require.NoError(t, err)
	for _, p := range procs {
		if p.Host == owner {
			s.exits(p, 4, within)
		}
	}
	s.takenOver(owner)
}

// TestConsulLock has "consul lock" contend for the same lock.
func TestConsulLock(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1, h2, h3 := s.Servers[0], s.Servers[1], s.Servers[2]
	ours := s.startOn(config{}, h1)[0]

	lock := s.consulLock(h3)
	s.eventually(soon, lock.waits)
	s.elapse(time.Second)
	require.NoError(t, s.ownedBy(h1))

	require.NoError(t, ours.Signal(syscall.SIGTERM))
	s.exits(ours, 0, 4*time.Second)
	s.eventually(soon, lock.holds)
	standby := s.start(h2, config{})
	s.eventually(soon, func() error { return inState(standby, "standby") })
	s.elapse(time.Second)
	require.NoError(t, s.unbound(t.Context()))
	status := s.status(h1)[s.vip.String()]
	require.Equal(t, "foreign", status["state"])
	require.Equal(t, s.session(), status["session"])
	require.Equal(t, h3.Name, status["node"])

	lock.end()
	s.eventually(2*soon, func() error { return s.ownedBy(h2) })
	s.seen(h1, h2)
}

// otherLock is a "consul lock" of the address.
type otherLock struct {
	*lab.Process
	s     *scene
	input *os.File
}

// consulLock starts "consul lock" on a host, with a command that runs until its
// input ends.
func (s *scene) consulLock(h *lab.Host) *otherLock {
	s.t.Helper()
	output, input, err := os.Pipe()
	require.NoError(s.t, err)
	s.t.Cleanup(func() { output.Close(); input.Close() })
	p, err := h.Start(lab.Command{
		Args:  []string{s.consul, "lock", "-verbose", "-pass-stdin", s.name + "/" + s.vip.String(), "cat"},
		Stdin: output,
	})
	require.NoError(s.t, err)
	return &otherLock{p, s, input}
}

// waits objects until it contends.
func (l *otherLock) waits() error {
	if !strings.Contains(l.String(), "Attempting lock acquisition") {
		return errors.New("consul lock doesn't contend yet")
	}
	return nil
}

// holds objects until it has the lock.
func (l *otherLock) holds() error {
	if state := l.s.status(l.Host)[l.s.vip.String()]["state"]; state != "foreign" {
		return fmt.Errorf("consul lock has not got the lock: it is %v", state)
	}
	return nil
}

// end ends the command that runs under the lock.
func (l *otherLock) end() {
	l.s.t.Helper()
	require.NoError(l.s.t, l.input.Close())
}

// TestCutOff cuts the owner off from Consul. It must have let go of the
// address at its hold deadline, and not before another may have it.
func TestCutOff(t *testing.T) {
	for _, role := range []string{"follower", "leader"} {
		t.Run("with a "+role, func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			hosts := s.byRole(role)
			owner := hosts[0]
			s.asked = s.cluster.Of(hosts[1])
			p := s.startOn(config{}, hosts...)[0]
			require.NoError(t, owner.CutOff(t.Context()))
			began := time.Now()
			t.Cleanup(func() {
				require.NoError(t, owner.Heal(context.Background()))
				s.ready()
			})
			s.exits(p, 4, fence+within)
			s.unboundOn(owner)
			released := logged(p, "released the address")
			require.Len(t, released, 1)
			kept := released[0].Time().Sub(began)
			t.Logf("unbound %v after the cut, of at most %v", kept, fence)
			require.LessOrEqual(t, kept, fence+500*time.Millisecond)
			s.seen(owner, s.takenOver(owner))
		})
	}
}

// byRole returns the hosts, first one whose Consul server has this role.
func (s *scene) byRole(role string) []*lab.Host {
	s.t.Helper()
	leader, err := s.cluster.Leader()
	require.NoError(s.t, err)
	hosts := slices.Clone(s.Servers)
	slices.SortStableFunc(hosts, func(a, b *lab.Host) int {
		switch leader.Host {
		case a:
			return 1
		case b:
			return -1
		}
		return 0
	})
	if role == "leader" {
		slices.Reverse(hosts)
	}
	return hosts
}

// consulCLI runs a command of Consul's own on a host.
func (s *scene) consulCLI(h *lab.Host, args ...string) error {
	_, err := h.Run(s.t.Context(), lab.Command{Args: append([]string{s.consul}, args...)})
	return err
}
