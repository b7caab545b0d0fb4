package lab

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"
)

func TestClusterSurvivesItsLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	bin, err := Consul.Find()
	if errors.Is(err, ErrNotFound) {
		t.Skip(err)
	}
	require.NoError(t, err)
	hosts := newLab(t).Servers
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := StartCluster(ctx, bin, ClusterConfig{RaftMultiplier: 1}, hosts)
	require.NoError(t, err)
	leader, err := cluster.Leader()
	require.NoError(t, err)
	_, err = leader.API.KV().Put(&api.KVPair{Key: "a", Value: []byte("b")}, nil)
	require.NoError(t, err)

	require.NoError(t, leader.Kill())
	require.NoError(t, Await(ctx, func() error {
		next, err := cluster.Leader()
		if err == nil && next == leader {
			return errors.New("still the old leader")
		}
		return err
	}))
	require.NoError(t, leader.Start())
	require.NoError(t, cluster.WaitReady(ctx))

	require.NoError(t, hosts[0].CutOff(ctx))
	require.NoError(t, Await(ctx, func() error {
		if _, _, err := cluster.Of(hosts[0]).API.KV().Get("a", nil); err == nil {
			return errors.New("still answered")
		}
		return nil
	}))
	require.NoError(t, hosts[0].Heal(ctx))
	require.NoError(t, cluster.WaitReady(ctx))
	pair, _, err := cluster.Of(hosts[0]).API.KV().Get("a", nil)
	require.NoError(t, err)
	require.Equal(t, "b", string(pair.Value))
}
