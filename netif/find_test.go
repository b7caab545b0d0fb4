package netif

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

func TestFind(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	newVeth(t, "eth1", "peer1")
	newVeth(t, "eth2", "peer2")
	h := newHost(t)
	operatorAdds(t, "eth0", "10.77.0.1/16")
	operatorAdds(t, "eth1", "10.77.1.1/24")
	operatorAdds(t, "eth1", "10.77.1.2/24") // a second address in the subnet does not count twice
	operatorAdds(t, "eth2", "10.77.1.7/32")
	operatorAdds(t, "eth2", "fd00:77::1/64")
	operatorAdds(t, "lo", "10.99.0.1/24")
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth1")))

	for addr, want := range map[string]string{
		"10.77.0.100":   "eth0",
		"10.77.1.100":   "eth1", // the longest subnet, although the link is down
		"10.77.1.7":     "eth1", // a /32 is no subnet
		"fd00:77::beef": "eth2",
	} {
		got, err := h.Find(netip.MustParseAddr(addr), "")
		require.NoError(t, err, addr)
		require.Equal(t, want, got.Name, addr)
	}

	_, err := h.Find(netip.MustParseAddr("10.99.0.7"), "")
	require.ErrorIs(t, err, ErrNoInterface)
	require.ErrorContains(t, err, "10.77.0.0/16 on eth0, 10.77.1.0/24 on eth1")
	_, err = h.Find(netip.MustParseAddr("10.77.0.100"), "eth9")
	require.ErrorIs(t, err, ErrNoInterface)
	require.ErrorContains(t, err, "eth1")
}

func TestFindByNameEqualsStandardLibrary(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	h := newHost(t)
	for _, name := range []string{"eth0", "lo"} {
		want, err := net.InterfaceByName(name)
		require.NoError(t, err)
		got, err := h.Find(netip.MustParseAddr("10.77.0.100"), name)
		require.NoError(t, err)
		if name == "lo" {
			got.HardwareAddr = nil // the standard library hides loopback's all-zero address
		}
		require.Equal(t, want, got)
	}
}

func TestFindAmbiguous(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	newVeth(t, "eth1", "peer1")
	h := newHost(t)
	operatorAdds(t, "eth0", "10.77.0.1/24")
	operatorAdds(t, "eth1", "10.77.0.2/24")

	_, err := h.Find(netip.MustParseAddr("10.77.0.100"), "")
	require.ErrorIs(t, err, ErrAmbiguous)
	require.ErrorContains(t, err, "eth0 and of eth1")
	got, err := h.Find(netip.MustParseAddr("10.77.0.100"), "eth1")
	require.NoError(t, err)
	require.Equal(t, "eth1", got.Name)
}

func TestFindIgnoresOurAddresses(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	_, err := h.Bind(eth0, prefix("10.77.0.100/24"), time.Minute)
	require.NoError(t, err)

	_, err = h.Find(netip.MustParseAddr("10.77.0.101"), "")
	require.ErrorIs(t, err, ErrNoInterface)
	require.ErrorContains(t, err, "existing subnets: none")
}

func TestFindByPeer(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	h := newHost(t)
	a := operatorAddr(t, "10.1.0.1/32")
	a.Peer = operatorAddr(t, "10.2.0.1/24").IPNet
	require.NoError(t, netlink.AddrAdd(linkNamed(t, "eth0"), a))

	got, err := h.Find(netip.MustParseAddr("10.2.0.100"), "")
	require.NoError(t, err)
	require.Equal(t, "eth0", got.Name)
}
