package netif

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func identity(t testing.TB, h *Host, index int) Identity {
	t.Helper()
	i, err := h.Identity(index)
	require.NoError(t, err)
	return i
}

func macOf(t testing.TB, name string) net.HardwareAddr {
	t.Helper()
	return linkNamed(t, name).Attrs().HardwareAddr
}

// addDefaultRoute adds a default route as an operator would.
func addDefaultRoute(t testing.TB, name, gateway string, metric int) *netlink.Route {
	t.Helper()
	r := &netlink.Route{LinkIndex: linkNamed(t, name).Attrs().Index, Gw: net.ParseIP(gateway), Priority: metric}
	require.NoError(t, netlink.RouteAdd(r))
	return r
}

func TestIdentityAddresses(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	require.Equal(t, []net.HardwareAddr{macOf(t, "eth0")}, identity(t, h, eth0).MACs)

	for _, cidr := range []string{"10.77.0.9/32", "10.77.0.11/24", "10.77.0.5/24", "10.78.0.1/16", "169.254.3.3/16"} {
		operatorAdds(t, "eth0", cidr)
	}
	peer := operatorAddr(t, "10.1.0.1/32")
	peer.Peer = operatorAddr(t, "10.2.0.1/24").IPNet
	require.NoError(t, netlink.AddrAdd(linkNamed(t, "eth0"), peer))
	operatorAdds(t, "peer0", "10.77.0.12/24")
	floating, err := h.Bind(eth0, prefix("10.77.0.100/24"), time.Minute)
	require.NoError(t, err)

	want := []netip.Prefix{
		prefix("10.77.0.11/24"), prefix("10.78.0.1/16"), // primary
		prefix("10.77.0.5/24"),
		prefix("10.1.0.1/32"), prefix("10.77.0.9/32"), // without a subnet
	}
	got := identity(t, h, eth0)
	require.Equal(t, want, got.Addrs)
	require.NoError(t, floating.Unbind())
	require.True(t, got.Equal(identity(t, h, eth0)), "a floating address changes nothing")
	_, err = h.Identity(9999)
	require.ErrorIs(t, err, ErrNoInterface)
}

func TestIdentityIPv6(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	for _, link := range []string{"eth0", "peer0"} {
		require.NoError(t, netlink.LinkSetUp(linkNamed(t, link)))
	}
	operatorAdds(t, "eth0", "fd00:77::9/64")
	require.Empty(t, identity(t, h, eth0).Addrs, "it may be in use")

	operatorAdds6(t, "eth0", "fd00:78::1/64")
	operatorAdds(t, "eth0", "10.77.0.11/24")
	operatorAdds6(t, "eth0", "fe80::1/64")
	_, err := h.Bind(eth0, prefix("fd00:78::100/128"), time.Minute)
	require.NoError(t, err)
	_, err = h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.NoError(t, err)
	i := identity(t, h, eth0)
	require.Contains(t, i.Addrs, prefix("10.77.0.11/24"))
	require.Contains(t, i.Addrs, prefix("fd00:78::1/64"))
	require.NotContains(t, i.Addrs, prefix("fd00:78::100/128"))
	require.Equal(t, "fe80::1", i.LinkLocal.String(), "the lowest")
	require.Equal(t, "fe80::1", i.Source(prefix("fd00:78::100/128").Addr()).String())
	require.Equal(t, "10.77.0.11", i.Source(prefix("10.77.0.100/32").Addr()).String())
	require.Len(t, identity(t, h, linkNamed(t, "peer0").Attrs().Index).MACs, 2, "a link-local address alone makes no MAC an own one")

	addDefaultRoute(t, "eth0", "fe80::fe", 100)
	addDefaultRoute(t, "eth0", "10.77.0.1", 0)
	i = identity(t, h, eth0)
	require.Equal(t, "fe80::fe", i.Gateway6.String())
	require.Equal(t, "10.77.0.1", i.Gateway.String())
}

// A kernel before Linux 5.18 does not keep the tag.
func TestIdentityWithoutTag(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	own, floating := address{index: eth0, prefix: prefix("10.77.0.11/24")}, address{index: eth0, prefix: prefix("10.77.0.100/32")}
	a, err := h.Bind(eth0, floating.prefix, time.Minute)
	require.NoError(t, err)
	require.True(t, h.own(own))
	require.False(t, h.own(floating))

	again, err := h.Bind(eth0, floating.prefix, time.Minute)
	require.NoError(t, err)
	require.NoError(t, a.Unbind())
	require.False(t, h.own(floating), "a later Bind counts")
	require.NoError(t, again.Unbind())
	require.True(t, h.own(floating))
	_, err = h.Bind(eth0, floating.prefix, 0)
	require.ErrorIs(t, err, ErrLifetime)
	require.True(t, h.own(floating))
}

func TestIdentityGateway(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	eth1 := newVeth(t, "eth1", "peer1")
	operatorAdds(t, "eth0", "10.77.0.11/24")
	operatorAdds(t, "eth1", "10.78.0.11/24")
	gateway := func(index int) string {
		t.Helper()
		if g := identity(t, h, index).Gateway; g.IsValid() {
			return g.String()
		}
		return "none"
	}
	require.Equal(t, "none", gateway(eth0))

	addDefaultRoute(t, "eth0", "10.77.0.1", 200)
	better := addDefaultRoute(t, "eth0", "10.77.0.2", 100)
	addDefaultRoute(t, "eth1", "10.78.0.1", 50)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth0, Dst: operatorAddr(t, "10.99.0.0/16").IPNet, Gw: net.ParseIP("10.77.0.9")}))
	require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth0, Gw: net.ParseIP("10.77.0.8"), Table: 1000}))
	require.Equal(t, "10.77.0.2", gateway(eth0))
	require.Equal(t, "10.78.0.1", gateway(eth1))
	require.NoError(t, netlink.RouteDel(better))
	require.Equal(t, "10.77.0.1", gateway(eth0))

	// The kernel removes the routes of a link that is set down.
	require.NoError(t, netlink.LinkSetDown(linkNamed(t, "eth0")))
	require.Equal(t, "none", gateway(eth0))
	require.Equal(t, "10.78.0.1", gateway(eth1))
}

func TestIdentityGatewayOfSeveral(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	eth1 := newVeth(t, "eth1", "peer1")
	operatorAdds(t, "eth0", "10.77.0.11/24")
	operatorAdds(t, "eth1", "10.78.0.11/24")
	require.NoError(t, netlink.RouteAdd(&netlink.Route{Dst: operatorAddr(t, "0.0.0.0/0").IPNet, MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: eth1, Gw: net.ParseIP("10.78.0.1")},
		{LinkIndex: eth0, Gw: net.ParseIP("10.77.0.1")},
	}}))
	require.Equal(t, "10.77.0.1", identity(t, h, eth0).Gateway.String())
	require.Equal(t, "10.78.0.1", identity(t, h, eth1).Gateway.String())
}

func TestIdentityMACs(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	newVeth(t, "eth1", "peer1")
	require.NoError(t, netlink.LinkAdd(&netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: eth0},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	}))
	mv0 := linkNamed(t, "mv0").Attrs().Index
	require.Equal(t, []net.HardwareAddr{macOf(t, "mv0"), macOf(t, "eth0")}, identity(t, h, mv0).MACs)
	require.Equal(t, []net.HardwareAddr{macOf(t, "eth0")}, identity(t, h, eth0).MACs, "peer0 is another station")

	// Other links count from their first address on.
	operatorAdds(t, "mv0", "10.77.0.12/24")
	require.Equal(t, []net.HardwareAddr{macOf(t, "eth0"), macOf(t, "mv0")}, identity(t, h, eth0).MACs)
	operatorRemoves(t, "mv0", "10.77.0.12/24")
	_, err := h.Bind(mv0, prefix("10.77.0.100/24"), time.Minute)
	require.NoError(t, err)
	require.Equal(t, []net.HardwareAddr{macOf(t, "eth0")}, identity(t, h, eth0).MACs, "a floating address is none of its own")
}

func TestIdentityMACsOfBridge(t *testing.T) {
	newNetns(t)
	h := newHost(t)
	newVeth(t, "eth0", "peer0")
	newVeth(t, "eth1", "peer1")
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{
		Name: "br0", HardwareAddr: parseMAC(t, "02:00:00:00:00:01"),
	}}))
	for _, port := range []string{"eth0", "eth1"} {
		require.NoError(t, netlink.LinkSetMaster(linkNamed(t, port), linkNamed(t, "br0")))
	}
	operatorAdds(t, "br0", "10.77.0.11/24")
	br0 := linkNamed(t, "br0").Attrs().Index
	require.Equal(t, Identity{
		MACs:  []net.HardwareAddr{parseMAC(t, "02:00:00:00:00:01")},
		Addrs: []netip.Prefix{prefix("10.77.0.11/24")},
	}, identity(t, h, br0))
}

func TestIdentityMACsOfVLAN(t *testing.T) {
	newNetns(t)
	h, eth0 := newHost(t), newVeth(t, "eth0", "peer0")
	requireOrSkip(t, netlink.LinkAdd(&netlink.Vlan{
		LinkAttrs: netlink.LinkAttrs{Name: "eth0.7", ParentIndex: eth0, HardwareAddr: parseMAC(t, "02:00:00:00:00:07")},
		VlanId:    7,
	}))
	vlan := linkNamed(t, "eth0.7").Attrs().Index
	require.Equal(t, []net.HardwareAddr{parseMAC(t, "02:00:00:00:00:07"), macOf(t, "eth0")}, identity(t, h, vlan).MACs)
	require.Equal(t, []net.HardwareAddr{macOf(t, "eth0")}, identity(t, h, eth0).MACs)
}

func TestIdentityMACsOfBond(t *testing.T) {
	newNetns(t)
	h := newHost(t)
	bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0"})
	bond.Mode, bond.FailOverMac = netlink.BOND_MODE_ACTIVE_BACKUP, netlink.BOND_FAIL_OVER_MAC_ACTIVE
	requireOrSkip(t, netlink.LinkAdd(bond))
	for _, member := range []string{"eth0", "eth1"} {
		newVeth(t, member, "to-"+member)
		require.NoError(t, netlink.LinkSetDown(linkNamed(t, member)))
		require.NoError(t, netlink.LinkSetMaster(linkNamed(t, member), linkNamed(t, "bond0")))
	}
	setUp(t, "bond0")
	got := identity(t, h, linkNamed(t, "bond0").Attrs().Index).MACs
	require.Equal(t, macOf(t, "bond0"), got[0])
	require.ElementsMatch(t, []net.HardwareAddr{macOf(t, "eth0"), macOf(t, "eth1")}, got)
}

// requireOrSkip skips the test where the kernel lacks a type of link.
func requireOrSkip(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("the kernel lacks this type of link")
	}
	require.NoError(t, err)
}

// A VLAN on a bond of cards, which not every kernel under test can make.
func TestHardwareAddrs(t *testing.T) {
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	vrrp, mine := net.HardwareAddr{0, 0, 0x5e, 0, 1, 51}, prefix("10.9.0.1/24")
	links := []link{
		{index: 1, mac: make(net.HardwareAddr, 6)},
		{index: 9, mac: mac(9)}, // without an address
		{index: 8, mac: mac(8), permanent: mac(80)},
		{index: 2, mac: mac(1), permanent: mac(2), master: 4, bonded: true},
		{index: 3, mac: mac(1), permanent: mac(3), master: 4, bonded: true},
		{index: 4, mac: mac(1)},
		{index: 5, mac: mac(1), lower: 4},
		{index: 6, mac: vrrp, lower: 5}, // another program's virtual router
		{index: 7, mac: net.HardwareAddr{10, 0, 0, 1}},
		{index: 10, mac: mac(10), master: 4}, // of a bridge, if 4 were one
	}
	own := []address{{index: 1, prefix: mine}, {index: 6, prefix: mine}, {index: 7, prefix: mine}, {index: 8, prefix: mine}}
	got := hardwareAddrs(links, own, links[6])
	require.Equal(t, []net.HardwareAddr{mac(1), mac(2), mac(3), mac(8), mac(80)}, got)

	loop := []link{{index: 1, mac: mac(1), lower: 2}, {index: 2, mac: mac(2), lower: 1}}
	require.Equal(t, []net.HardwareAddr{mac(1), mac(2)}, hardwareAddrs(loop, nil, loop[0]))
	require.Empty(t, hardwareAddrs(links, nil, links[0]), "loopback")
}

func TestIdentitySource(t *testing.T) {
	i := Identity{Addrs: []netip.Prefix{prefix("10.1.0.1/16"), prefix("10.77.0.11/16"), prefix("10.77.1.11/24"), prefix("10.77.1.5/24")}}
	for addr, want := range map[string]string{
		"10.77.0.100": "10.77.0.11",
		"10.77.1.100": "10.77.1.11",
		"10.1.2.3":    "10.1.0.1",
		"192.0.2.1":   "10.1.0.1",
	} {
		require.Equal(t, want, i.Source(netip.MustParseAddr(addr)).String(), addr)
	}
	require.False(t, Identity{}.Source(netip.MustParseAddr("10.77.0.100")).IsValid())
}

func TestIdentityEqual(t *testing.T) {
	make := func() Identity {
		return Identity{
			MACs:    []net.HardwareAddr{{2, 0, 0, 0, 0, 1}},
			Addrs:   []netip.Prefix{prefix("10.77.0.11/24")},
			Gateway: netip.MustParseAddr("10.77.0.1"),
		}
	}
	require.True(t, make().Equal(make()))
	for name, change := range map[string]func(*Identity){
		"MAC":     func(i *Identity) { i.MACs[0][5]++ },
		"MACs":    func(i *Identity) { i.MACs = nil },
		"address": func(i *Identity) { i.Addrs[0] = prefix("10.77.0.11/16") },
		"gateway": func(i *Identity) { i.Gateway = netip.Addr{} },
	} {
		other := make()
		change(&other)
		require.False(t, make().Equal(other), name)
	}
}
