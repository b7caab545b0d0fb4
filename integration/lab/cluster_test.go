package lab

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"
)

// startLab starts a lab until the end of the test. It skips the test if there is no
// Consul, or if tests in a lab are not to run.
func startLab(ctx context.Context, t *testing.T, c Config) *Lab {
	t.Helper()
	if err := Wanted(); err != nil {
		t.Skip(err)
	}
	bin, err := Consul.Find()
	if errors.Is(err, ErrNotFound) {
		t.Skip(err)
	}
	require.NoError(t, err)
	c.Programs.Consul = bin
	l, err := Start(ctx, c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestClusterSurvivesItsLeader(t *testing.T) {
	for _, world := range Worlds {
		t.Run(string(world), func(t *testing.T) { testClusterSurvivesItsLeader(t, world.Cluster()) })
	}
}

func testClusterSurvivesItsLeader(t *testing.T, c ClusterConfig) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l := startLab(ctx, t, Config{Cluster: c})
	leader, err := l.Cluster.Leader()
	require.NoError(t, err)
	_, err = leader.API.KV().Put(&api.KVPair{Key: "a", Value: []byte("b")}, nil)
	require.NoError(t, err)

	require.NoError(t, leader.Kill())
	require.NoError(t, Await(ctx, func() error {
		next, err := l.Cluster.Leader()
		if err == nil && next == leader {
			return errors.New("still the old leader")
		}
		return err
	}))
	require.NoError(t, leader.Start())
	require.NoError(t, l.Cluster.WaitReady(ctx))

	h1 := l.Servers[0]
	kv := l.Cluster.Of(h1).API.KV()
	require.NoError(t, h1.CutOff(ctx))
	require.NoError(t, Await(ctx, func() error {
		if _, _, err := kv.Get("a", nil); err == nil {
			return errors.New("Consul still answers")
		}
		return nil
	}))
	require.NoError(t, h1.Heal(ctx))
	require.NoError(t, l.Cluster.WaitReady(ctx))
	pair, _, err := kv.Get("a", nil)
	require.NoError(t, err)
	require.Equal(t, "b", string(pair.Value))
}

// TestClientAgents has Consul's servers and its network apart from the hosts and their
// addresses: neither notices the faults of the other.
func TestClientAgents(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l := startLab(ctx, t, Config{Cluster: Clients.Cluster()})
	require.Len(t, l.Cluster.All(), 6)
	h1, agent := l.Servers[0], l.Cluster.Agents[0]
	require.Equal(t, agent, l.Cluster.Of(h1))
	require.NotContains(t, l.Cluster.Servers, agent)

	require.NoError(t, h1.Unplug("eth0"))
	_, err := agent.API.KV().Put(&api.KVPair{Key: "a", Value: []byte("b")}, nil)
	require.NoError(t, err, "Consul has another cable")
	require.NoError(t, h1.Plug("eth0"))

	require.NoError(t, h1.AddAddress("eth0", vipNet))
	c, err := l.Client.NewClient(vip)
	require.NoError(t, err)
	defer c.Stop()
	require.NoError(t, h1.Unplug(ConsulInterface))
	require.NoError(t, Await(ctx, answered(c, h1)), "the address has another cable")
	require.NoError(t, h1.Plug(ConsulInterface))

	require.NoError(t, agent.Stop(ctx))
	require.NoError(t, agent.Start())
	require.NoError(t, l.Cluster.WaitReady(ctx))
	members, err := l.Cluster.Servers[0].API.Agent().Members(false)
	require.NoError(t, err)
	require.Len(t, members, 6, "the agent did not leave")
}
