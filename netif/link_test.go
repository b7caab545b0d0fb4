package netif

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOwn(t *testing.T) {
	newNetns(t)
	newVeth(t, "eth0", "peer0")
	h := newHost(t)
	require.NoError(t, netlink.LinkAdd(&netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: linkNamed(t, "eth0").Attrs().Index},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	}))
	own := func(m net.HardwareAddr) bool {
		t.Helper()
		is, err := h.Own(m)
		require.NoError(t, err)
		return is
	}
	for _, name := range []string{"eth0", "peer0", "mv0"} {
		require.True(t, own(linkNamed(t, name).Attrs().HardwareAddr), name)
	}
	require.False(t, own(parseMAC(t, "02:00:00:00:00:99")))
	require.False(t, own(parseMAC(t, "00:00:00:00:00:00")), "the address of loopback")
	require.False(t, own(nil))

	// Own lists the links anew each time.
	was, is := linkNamed(t, "eth0").Attrs().HardwareAddr, parseMAC(t, "02:00:00:00:00:99")
	require.NoError(t, netlink.LinkSetHardwareAddr(linkNamed(t, "eth0"), is))
	require.True(t, own(is))
	require.False(t, own(was))
}

func TestOwnAmongManyLinks(t *testing.T) {
	newNetns(t)
	h := newHost(t)
	for i := range 60 {
		newVeth(t, fmt.Sprintf("eth%d", i), fmt.Sprintf("peer%d", i))
	}
	for _, name := range []string{"eth0", "peer31", "eth59", "peer59"} {
		is, err := h.Own(linkNamed(t, name).Attrs().HardwareAddr)
		require.NoError(t, err)
		require.True(t, is, name)
	}
}

func TestParseLink(t *testing.T) {
	header := make([]byte, unix.SizeofIfInfomsg)
	header[4], header[8] = 3, unix.IFF_UP
	m := append(header, attr(unix.IFLA_IFNAME, 'e', 't', 'h', '0', 0)...)
	m = append(m, attr(unix.IFLA_MTU, 0, 0, 0, 0)...)
	m = append(m, attr(unix.IFLA_ADDRESS, 2, 0, 0, 0, 0, 1)...)
	m = append(m, attr(unix.IFLA_PERM_ADDRESS, 2, 0, 0, 0, 0, 2)...)

	l, err := parseLink(m)
	require.NoError(t, err)
	require.Equal(t, "eth0", l.name)
	require.Equal(t, net.HardwareAddr{2, 0, 0, 0, 0, 1}, l.mac)
	require.Equal(t, net.HardwareAddr{2, 0, 0, 0, 0, 2}, l.permanent)
	require.False(t, l.partial)

	l, err = parseLink(append(m, attr(unix.IFLA_WIRELESS, 1, 2, 3, 4)...))
	require.NoError(t, err)
	require.True(t, l.partial)

	_, err = parseLink(m[:unix.SizeofIfInfomsg-1])
	require.Error(t, err)
}

func TestParseLinkStack(t *testing.T) {
	kind := func(own, member string) []byte {
		info := append(attr(unix.IFLA_INFO_KIND, []byte(own)...), attr(unix.IFLA_INFO_SLAVE_KIND, []byte(member)...)...)
		return attr(unix.IFLA_LINKINFO, info...)
	}
	below, elsewhere, master := attr32(unix.IFLA_LINK, 7), attr32(unix.IFLA_LINK_NETNSID, 0), attr32(unix.IFLA_MASTER, 9)
	for _, tt := range []struct {
		name  string
		attrs [][]byte
		want  link
	}{
		{"VLAN", [][]byte{below, kind("vlan\x00", "")}, link{lower: 7}},
		{"macvlan of another namespace's link", [][]byte{below, elsewhere, kind("macvlan\x00", "")}, link{}},
		{"veth", [][]byte{below, kind("veth\x00", "")}, link{}},
		{"VLAN in a bond", [][]byte{kind("vlan\x00", "bond\x00"), master, below}, link{lower: 7, master: 9, bonded: true}},
		{"card in a team", [][]byte{master, kind("", "team\x00")}, link{master: 9, bonded: true}},
		{"veth in a bridge", [][]byte{below, master, kind("veth\x00", "bridge\x00")}, link{master: 9}},
		{"damaged details", [][]byte{below, attr(unix.IFLA_LINKINFO, 1, 0, 0, 0)}, link{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseLink(slices.Concat(append([][]byte{make([]byte, unix.SizeofIfInfomsg)}, tt.attrs...)...))
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestLinkUp(t *testing.T) {
	for flags, want := range map[uint32]bool{
		unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP: true,
		unix.IFF_UP | unix.IFF_LOWER_UP:                    false, // dormant: waiting for 802.1X authentication
		unix.IFF_UP:                                        false,
		unix.IFF_RUNNING | unix.IFF_LOWER_UP:               false,
	} {
		require.Equal(t, want, link{flags: flags}.up(), "%#x", flags)
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), attr(unix.IFLA_IFNAME, 'e', 't', 'h', '0', 0)...))
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), attr(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND, []byte("vlan")...)...)...))
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), attr(unix.IFLA_ADDRESS, 2, 0, 0, 0, 0, 1)...))
	f.Fuzz(func(t *testing.T, m []byte) {
		l, err := parseLink(m)
		if err == nil {
			require.LessOrEqual(t, len(l.name)+len(l.mac)+len(l.permanent), len(m))
		}
	})
}
