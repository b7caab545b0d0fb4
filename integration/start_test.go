package integration

import (
	"context"
	"encoding/json"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func TestStart(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	h1 := procs[0].Host

	addrs, err := h1.Addresses(t.Context())
	require.NoError(t, err)
	for _, a := range addrs {
		if a.Prefix.Addr() == s.vip {
			require.Equal(t, 32, a.Prefix.Bits())
			require.Equal(t, "eth0", a.Interface)
		}
	}

	out, err := h1.Run(t.Context(), lab.Command{Args: []string{s.consul, "kv", "get", s.key(s.vip)}})
	require.NoError(t, err)
	var printed record
	require.NoError(t, json.Unmarshal(out, &printed))
	pair, r, err := s.record(s.vip)
	require.NoError(t, err)
	require.Equal(t, printed, r)
	require.Equal(t, h1.Name, r.Node)
	require.Equal(t, "eth0", r.Interface)
	require.Equal(t, h1.MAC.String(), r.MAC)
	require.Equal(t, pair.Session, r.Session)
	require.WithinDuration(t, time.Now(), r.Since, time.Minute)
	require.EqualValues(t, api.LockFlagValue, pair.Flags)

	for _, h := range s.Servers {
		row := s.status(h)[s.vip.String()]
		require.Equal(t, "held", row["state"])
		require.Equal(t, h1.Name, row["node"])
		require.Equal(t, "eth0", row["interface"])
		require.Equal(t, h1.MAC.String(), row["mac"])
	}
	s.seen(h1)
}

func TestStop(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			procs := s.startAll(config{})
			h1 := procs[0].Host
			session := s.session()

			require.NoError(t, procs[0].Signal(signal))
			s.exits(procs[0], 0, 4*time.Second)
			s.unboundOn(h1)
			next := s.takenOver(h1)
			s.seen(h1, next)
			s.announced(h1, next)
			s.gone(h1, session)
		})
	}
}

// TestStopOfTheLast stops one after the other until nobody is left.
func TestStopOfTheLast(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{})
	owner := procs[0].Host
	for range procs {
		owner = s.stopOwner(procs, owner)
	}
	pair, r, err := s.record(s.vip)
	require.NoError(t, err)
	require.Empty(t, pair.Session)
	require.Equal(t, "released", r.State)
	require.NotEmpty(t, r.Reason)
	require.EqualValues(t, api.LockFlagValue, pair.Flags)
	require.Equal(t, "free", s.status(s.Servers[0])[s.vip.String()]["state"])
	members, _, err := s.asked.API.KV().Keys(s.name+"/.members/", "", nil)
	require.NoError(t, err)
	require.Empty(t, members)
}

// stopOwner stops the owner and returns the next one, or nil if it was the last.
func (s *scene) stopOwner(procs []*lab.Process, owner *lab.Host) *lab.Host {
	s.t.Helper()
	others := 0
	for _, p := range procs {
		if p.Host == owner {
			require.NoError(s.t, p.Signal(syscall.SIGTERM))
			s.exits(p, 0, 4*time.Second)
		} else if p.Running() {
			others++
		}
	}
	if others == 0 {
		return nil
	}
	return s.takenOver(owner)
}

// TestStopWhileConsulIsFrozen stops an owner whose Consul agent doesn't answer.
func TestStopWhileConsulIsFrozen(t *testing.T) {
	w := sharedWorld(t)
	s := newScene(t, w)
	h2, h3 := s.Servers[1], s.Servers[2]
	procs := s.startOn(config{}, h2, h3)
	require.NoError(t, w.cluster.Of(h2).Freeze())
	t.Cleanup(func() {
		require.NoError(t, w.cluster.Of(h2).Thaw())
		s.ready()
	})

	require.NoError(t, procs[0].Signal(syscall.SIGTERM))
	s.eventually(within, func() error { return s.unbound(t.Context()) })
	began := time.Now()
	s.exits(procs[0], 0, 4*time.Second+within)
	t.Logf("exited %v after the address was gone", time.Since(began))
	s.takenOver(h2)
	s.seen(h2, h3)
}

// session returns the session that holds the lock.
func (s *scene) session() string {
	s.t.Helper()
	pair, _, err := s.asked.API.KV().Get(s.key(s.vip), nil)
	require.NoError(s.t, err)
	require.NotNil(s.t, pair)
	require.NotEmpty(s.t, pair.Session)
	return pair.Session
}

// gone requires that nothing in Consul remembers the instance of a host.
func (s *scene) gone(h *lab.Host, session string) {
	s.t.Helper()
	entry, _, err := s.asked.API.Session().Info(session, nil)
	require.NoError(s.t, err)
	require.Nil(s.t, entry, "its session is still there")
	services, err := s.cluster.Of(h).API.Agent().Services()
	require.NoError(s.t, err)
	for id, service := range services {
		require.NotEqual(s.t, s.name, service.Service, "its service %s is still registered", id)
	}
	member, _, err := s.asked.API.KV().Get(s.name+"/.members/"+h.Name, nil)
	require.NoError(s.t, err)
	require.Nil(s.t, member, "it is still a member")
}

// ready waits until Consul is whole again.
func (s *scene) ready() {
	s.t.Helper()
	s.eventually(2*soon, func() error { return s.cluster.WaitReady(context.Background()) })
}
