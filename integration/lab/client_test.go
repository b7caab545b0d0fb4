package lab

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newClient starts a client of the address, until the end of the test at the latest.
// The returned function stops it before.
func newClient(t *testing.T, h *Host) (c *Client, stop func() Report) {
	t.Helper()
	c, err := h.NewClient(vip)
	require.NoError(t, err)
	stopped := false
	stop = func() Report {
		stopped = true
		return c.Stop()
	}
	t.Cleanup(func() {
		if !stopped {
			c.Stop()
		}
	})
	return c, stop
}

// TestClientSeesLossWhenAnAddressIsRemoved removes an address for so long that pauses of
// the client on a busy machine do not matter. TestReportOn is about the exact bounds of a
// gap.
func TestClientSeesLossWhenAnAddressIsRemoved(t *testing.T) {
	const (
		away  = 3 * time.Second
		pause = away / 3 // between two requests
	)
	hosts := newHosts(t)
	h1 := hosts.Servers[0]
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	c, stop := newClient(t, hosts.Client)
	eventually(t, answered(c, h1))

	removing := time.Now()
	require.NoError(t, h1.RemoveAddress("eth0", vipNet))
	removed := time.Now()
	eventually(t, func() error {
		if length := c.Report().Longest().Length(); length < away {
			return fmt.Errorf("lost for %v so far", length)
		}
		return nil
	})
	adding := time.Now()
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	eventually(t, answered(c, h1))
	back := time.Now()

	r := stop()
	t.Log(r)
	gap := r.Longest()
	require.Equal(t, []string{"h1"}, r.Hosts())
	require.WithinRange(t, gap.From, removing.Add(-pause), removed.Add(pause))
	require.WithinRange(t, gap.To, adding.Add(-pause), back)
	require.GreaterOrEqual(t, gap.Length(), away)
	require.Equal(t, r.Sent-r.Lost, r.Owned[0].Answers)
	require.NotZero(t, gap.Lost)
}

func TestClientFollowsGratuitousARP(t *testing.T) {
	hosts := newHosts(t)
	h1, h2 := hosts.Servers[0], hosts.Servers[1]
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	c, stop := newClient(t, hosts.Client)
	eventually(t, answered(c, h1))

	require.NoError(t, h1.RemoveAddress("eth0", vipNet))
	require.NoError(t, h2.AddAddress("eth0", vipNet))
	eventually(t, func() error {
		// Linux ignores an update that comes within a second of the last one.
		if err := h2.Send("eth0", Gratuitous(ARPRequest, h2.MAC, vip).Frame()); err != nil {
			return err
		}
		return c.CheckAnsweredBy(h2)
	})

	r := stop()
	require.Equal(t, []string{"h1", "h2"}, r.Hosts())
	require.Less(t, r.Owned[0].Last, r.Owned[1].First)
}

// A client of an IPv6 address, beside one of an IPv4 address.
func TestClientsOfBothFamilies(t *testing.T) {
	hosts := newHosts(t)
	h1, h2 := hosts.Servers[0], hosts.Servers[1]
	vip6 := netip.MustParsePrefix("fd77::1:1/128")
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	require.NoError(t, h2.AddAddress("eth0", vip6))
	cs, err := hosts.Client.NewClients(5*time.Millisecond, vip, vip6.Addr())
	require.NoError(t, err)
	for _, c := range cs.All {
		eventually(t, atLeast(50, func() int { return c.Report().Sent }))
	}
	cs.Stop()
	require.Equal(t, []string{"h1"}, cs.All[0].Report().Hosts())
	require.Equal(t, []string{"h2"}, cs.All[1].Report().Hosts())
}

func TestClientWithoutAnyAnswer(t *testing.T) {
	c, stop := newClient(t, newHosts(t).Client)
	eventually(t, atLeast(50, func() int { return c.Report().Before }))
	r := stop()
	require.Zero(t, r.Sent)
	require.Zero(t, r.Lost)
	require.Empty(t, r.Hosts())
	require.Empty(t, r.Gaps)
}

// TestClients has clients of several addresses, of which each sees only its own.
func TestClients(t *testing.T) {
	hosts := newHosts(t)
	h1, other := hosts.Servers[0], vip.Next()
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	cs, err := hosts.Client.NewClients(5*time.Millisecond, vip, other)
	require.NoError(t, err)
	eventually(t, atLeast(50, func() int { return cs.All[0].Report().Sent }))
	cs.Stop()
	require.Equal(t, []string{"h1"}, cs.All[0].Report().Hosts())
	require.Empty(t, cs.All[1].Report().Hosts())
	require.NotZero(t, cs.All[1].Report().Before)
}
