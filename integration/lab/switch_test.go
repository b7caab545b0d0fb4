package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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

// TestSnoop has a host hear the frames to a group only after it has joined it.
func TestSnoop(t *testing.T) {
	l, _ := newSwitch(t)
	h1, h2 := l.Servers[0], l.Servers[1]
	require.NoError(t, l.Snoop(t.Context(), true))
	group := netip.MustParsePrefix("fd77::aa:bbcc/128") // the solicited-node group of an address
	heard := map[*Host]*atomic.Int64{h1: new(atomic.Int64), h2: new(atomic.Int64)}
	for h, n := range heard {
		wire, err := h.openPacket(serviceInterface, unix.ETH_P_IPV6)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, wire.close()) })
		go receive(wire, func(frame []byte, _ time.Time) {
			if bytes.HasPrefix(frame, []byte{0x33, 0x33, 0xff, 0xaa, 0xbb, 0xcc}) {
				n.Add(1)
			}
		})
	}
	heardBy := func(h *Host) func() int { return func() int { return int(heard[h].Load()) } }
	ask := func() {
		t.Helper()
		require.NoError(t, l.Observer.Send(serviceInterface, Solicitation(l.Observer.MAC, netip.IPv6Unspecified(), group.Addr()).Frame()))
	}
	require.NoError(t, h1.AddAddress(serviceInterface, group))
	eventually(t, func() error {
		before := heardBy(h2)()
		for range 10 {
			n := heardBy(h1)()
			ask()
			eventually(t, atLeast(n+1, heardBy(h1)))
		}
		if n := heardBy(h2)() - before; n > 0 {
			return fmt.Errorf("another host has heard %d of 10 frames for the member", n)
		}
		return nil
	})
	require.NoError(t, l.Snoop(t.Context(), false))
	eventually(t, atLeast(heardBy(h2)()+1, func() int { ask(); return heardBy(h2)() }))
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
	s, err := newSegment(t.TempDir(), ClusterConfig{Gateway: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	hosts, err := s.addHosts()
	require.NoError(t, err)
	h1 := hosts.Servers[0]
	require.NoError(t, h1.SetLink("eth0", false))
	require.NoError(t, h1.SetLink("eth0", true))
	for family, gateway := range map[string]netip.Addr{"-4": hosts.Gateway.Addr, "-6": hosts.Gateway.Addr6} {
		out, err := h1.Run(t.Context(), Command{Args: []string{"ip", family, "route", "show", "default"}})
		require.NoError(t, err)
		require.Contains(t, string(out), gateway.String())
	}
}
