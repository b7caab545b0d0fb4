package lab

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newObserver starts an observer, until the end of the test at the latest. The
// returned function stops it before.
func newObserver(t *testing.T, h *Host, every time.Duration, addrs ...netip.Addr) (o *Observer, stop func()) {
	t.Helper()
	o, err := h.NewObserver(every, addrs...)
	require.NoError(t, err)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			o.Stop()
		}
	}
	t.Cleanup(stop)
	return o, stop
}

// allQuestions is so many answers that each sender address was used more than once.
const allQuestions = 2 * questions

func TestObserverSeesTwoOwners(t *testing.T) {
	hosts := newHosts(t)
	h1, h2 := hosts.Servers[0], hosts.Servers[1]
	other := netip.MustParseAddr("10.77.1.2")
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	o, stop := newObserver(t, hosts.Observer, ObserveInterval, vip, other)
	eventually(t, atLeast(allQuestions, func() int { return answers(o.Owned(vip)) }))
	require.Empty(t, o.Doubles())

	require.NoError(t, h2.AddAddress("eth0", vipNet))
	eventually(t, atLeast(3, func() int { return len(o.Doubles()) }))
	stop()
	for _, d := range o.Doubles() {
		require.Equal(t, vip, d.Addr)
		require.ElementsMatch(t, []string{"h1", "h2"}, d.Hosts)
	}
	require.Empty(t, o.Owned(other))
}

// The observer asks for addresses of both families.
func TestObserverOfIPv6(t *testing.T) {
	hosts := newHosts(t)
	h1, h2 := hosts.Servers[0], hosts.Servers[1]
	vip6 := netip.MustParsePrefix("fd77::1:1/128")
	addr := vip6.Addr()
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	require.NoError(t, h1.AddAddress("eth0", vip6))
	o, stop := newObserver(t, hosts.Observer, ObserveInterval, vip, addr)
	for _, a := range []netip.Addr{vip, addr} {
		eventually(t, atLeast(allQuestions, func() int { return answers(o.Owned(a)) }))
	}
	require.Empty(t, o.Doubles())
	require.Empty(t, o.Announced(addr))

	require.NoError(t, h2.AddAddress("eth0", vip6))
	eventually(t, atLeast(3, func() int { return len(o.Doubles()) }))
	require.NoError(t, h2.Send("eth0", Solicitation(h2.MAC, netip.IPv6Unspecified(), addr).Frame())) // claims nothing
	require.NoError(t, h2.Send("eth0", Advertisement(Stranger(), addr).Frame()))
	eventually(t, atLeast(2, func() int { return answers(o.Announced(addr)) }))
	stop()
	for _, d := range o.Doubles() {
		require.Equal(t, addr, d.Addr)
		require.ElementsMatch(t, []string{"h1", "h2"}, d.Hosts)
	}
	require.Contains(t, HostsOf(o.Announced(addr)), Stranger().String())
}

func TestObserverHearsClaims(t *testing.T) {
	hosts := newHosts(t)
	h1, h2 := hosts.Servers[0], hosts.Servers[1]
	o, stop := newObserver(t, hosts.Observer, ObserveInterval, vip)
	// A busy machine may deliver the frames of two hosts in another order.
	for n, claim := range []struct {
		from      *Host
		operation uint16
	}{{h1, ARPRequest}, {h1, ARPReply}, {h2, ARPReply}} {
		require.NoError(t, h2.Send("eth0", Probe(h2.MAC, vip).Frame())) // claims nothing
		require.NoError(t, claim.from.Send("eth0", Gratuitous(claim.operation, claim.from.MAC, vip).Frame()))
		eventually(t, atLeast(n+1, func() int { return answers(o.Announced(vip)) }))
	}
	stop()
	announced := o.Announced(vip)
	require.Equal(t, []string{"h1", "h2"}, HostsOf(announced))
	require.Equal(t, 2, announced[0].Answers)
	require.Equal(t, 1, announced[1].Answers)
	require.Empty(t, o.Owned(vip))
}

func TestObserverTakesTwoInterfacesForOneHost(t *testing.T) {
	hosts := newHosts(t)
	h1 := hosts.Servers[0]
	require.NoError(t, h1.AddInterface("eth1", net.HardwareAddr{2, 0, 0, 0, 1, 1}))
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	o, stop := newObserver(t, hosts.Observer, time.Millisecond, vip)
	eventually(t, atLeast(allQuestions, func() int { return answers(o.Owned(vip)) }))
	stop()
	require.Empty(t, o.Doubles())
	require.Len(t, o.Owned(vip), 1)
}

// TestObserverTeachesTheClientNothing moves an address without any announcement while the
// observer asks for it. The client keeps the old owner in its neighbour cache. One answer
// to the client itself teaches it the new one.
func TestObserverTeachesTheClientNothing(t *testing.T) {
	hosts := newHosts(t)
	h1, h2, client := hosts.Servers[0], hosts.Servers[1], hosts.Client
	// The client must not resolve the address anew by itself.
	require.NoError(t, client.SetSysctl("net/ipv4/neigh/eth0/base_reachable_time_ms", "3600000"))
	require.NoError(t, h1.AddAddress("eth0", vipNet))
	o, _ := newObserver(t, hosts.Observer, time.Millisecond, vip)
	c, _ := newClient(t, client)
	eventually(t, answered(c, h1))

	require.NoError(t, h1.RemoveAddress("eth0", vipNet))
	require.NoError(t, h2.AddAddress("eth0", vipNet))
	before := answers(o.Owned(vip))
	eventually(t, atLeast(before+allQuestions, func() int { return answers(o.Owned(vip)) }))
	require.Equal(t, "h2", o.Owned(vip)[1].Host)
	learnt, err := client.Neighbour(vip)
	require.NoError(t, err)
	require.Equal(t, h1.MAC, learnt)
	require.Equal(t, []string{"h1"}, c.Report().Hosts())

	eventually(t, func() error {
		reply := ARP{To: client.MAC, Operation: ARPReply, SenderMAC: h2.MAC, SenderIP: vip, TargetMAC: client.MAC, TargetIP: client.Addr}
		if err := h2.Send("eth0", reply.Frame()); err != nil {
			return err
		}
		return c.CheckAnsweredBy(h2)
	})
}
