package lab

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWorldFlag(t *testing.T) {
	world := Clients
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Var(&world, "world", "")
	require.NoError(t, flags.Parse([]string{"-world=servers"}))
	require.Equal(t, ServersOnHosts, world)
	require.ErrorContains(t, flags.Parse([]string{"-world=none"}), "must be clients or servers")
}

func TestWorlds(t *testing.T) {
	require.Equal(t, ClusterConfig{ClientAgents: true, ConsulNetwork: true, Gateway: true}, Clients.Cluster())
	require.Equal(t, ClusterConfig{}, ServersOnHosts.Cluster())
}
