package main

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func TestForeignExits(t *testing.T) {
	f := foreign{host: &lab.Host{Name: "client", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 40}}}
	f.begin()
	require.Empty(t, f.exited("conflict mac="+lab.Stranger().String()))
	problems := f.exited("conflict mac=" + f.host.MAC.String())
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "of 2 exits")
	f.begin()
	f.begin()
	problems = f.exited("conflict mac=02:00:00:00:00:02")
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "without a claim by a stranger")
}

func TestForeignInvolved(t *testing.T) {
	f := foreign{host: &lab.Host{Name: "client"}}
	require.True(t, f.involved(lab.Double{Hosts: []string{"h1", "client"}}))
	require.False(t, f.involved(lab.Double{Hosts: []string{"h1", "h2"}}))
}
