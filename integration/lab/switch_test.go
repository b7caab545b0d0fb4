package lab

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// newSwitch returns a lab without Consul, in which h1 has the address and answers a
// client.
func newSwitch(t *testing.T) (*Lab, *Client) {
	t.Helper()
	hosts := newHosts(t)
	require.NoError(t, hosts.Servers[0].AddAddress("eth0", vipNet))
	c, _ := newClient(t, hosts.Client)
	eventually(t, answered(c, hosts.Servers[0]))
	return &Lab{Hosts: hosts, segment: hosts.Client.segment}, c
}

func TestSwitchOff(t *testing.T) {
	l, c := newSwitch(t)
	require.NoError(t, l.SetSwitch(false))
	eventually(t, unanswered(c))
	require.NoError(t, operational(l.Servers[0].nl, "eth0"))
	require.NoError(t, l.SetSwitch(true))
	eventually(t, answered(c, l.Servers[0]))
}

// TestLose loses so many frames that the client must notice.
func TestLose(t *testing.T) {
	l, c := newSwitch(t)
	require.NoError(t, l.Lose(t.Context(), 30))
	lost := c.Report().Lost
	eventually(t, atLeast(lost+50, func() int { return c.Report().Lost }))
	require.NoError(t, l.Lose(t.Context(), 5)) // replaces the other one
	require.NoError(t, l.Lose(t.Context(), 0))
	eventually(t, answered(c, l.Servers[0]))
}

func TestStall(t *testing.T) {
	l, c := newSwitch(t)
	h1 := l.Servers[0]
	p, err := h1.Start(Command{Args: []string{"sleep", "60"}})
	require.NoError(t, err)
	require.NoError(t, h1.Stall())
	eventually(t, unanswered(c))
	eventually(t, p.frozen)
	require.NoError(t, operational(h1.nl, "eth0"))
	require.NoError(t, h1.Resume())
	eventually(t, answered(c, h1))
	require.Error(t, p.frozen())
}

// TestGateway has the hosts keep their default route when a link was down.
func TestGateway(t *testing.T) {
	if err := Wanted(); err != nil {
		t.Skip(err)
	}
	s, err := newSegment(t.TempDir(), false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	hosts, err := s.addHosts(ClusterConfig{Gateway: true})
	require.NoError(t, err)
	h1 := hosts.Servers[0]
	require.NoError(t, h1.SetLink("eth0", false))
	require.NoError(t, h1.SetLink("eth0", true))
	out, err := h1.Run(t.Context(), Command{Args: []string{"ip", "route", "show", "default"}})
	require.NoError(t, err)
	require.Contains(t, string(out), hosts.Gateway.Addr.String())
}
