package netif

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNetns moves the calling test into a network namespace of its own, with loopback
// up. Other tests are not affected.
func newNetns(t testing.TB) {
	t.Helper()
	// Never unlocked: the thread ends with the test instead of running other goroutines
	// in this namespace.
	runtime.LockOSThread()
	ns, err := netns.New()
	if errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace needs root (CAP_SYS_ADMIN)")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ns.Close()) })
	setUp(t, "lo")
}

// newHost opens the namespace that newNetns made, until the test ends.
func newHost(t testing.TB) *Host {
	t.Helper()
	h, err := Open(AgentTag, hclog.NewNullLogger())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

// newVeth creates a pair of connected links, sets both up, and returns the index of
// the first.
func newVeth(t testing.TB, name, peer string) int {
	t.Helper()
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name},
		PeerName:  peer,
	}))
	setUp(t, name)
	setUp(t, peer)
	return linkNamed(t, name).Attrs().Index
}

func setUp(t testing.TB, name string) {
	t.Helper()
	require.NoError(t, netlink.LinkSetUp(linkNamed(t, name)))
}

func linkNamed(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return l
}

// operatorAdds binds an address as an operator would: permanent and without our tag.
func operatorAdds(t testing.TB, name, cidr string) {
	t.Helper()
	require.NoError(t, netlink.AddrAdd(linkNamed(t, name), operatorAddr(t, cidr)))
}

// operatorAdds6 adds an IPv6 address that is in no use elsewhere.
func operatorAdds6(t testing.TB, name, cidr string) {
	t.Helper()
	a := operatorAddr(t, cidr)
	a.Flags = unix.IFA_F_NODAD
	link := linkNamed(t, name)
	require.NoError(t, netlink.AddrAdd(link, a))
	usable := func(o netlink.Addr) bool {
		return o.IPNet.String() == a.IPNet.String() && o.Flags&unix.IFA_F_TENTATIVE == 0
	}
	for range 1000 { // not in another goroutine: its thread would have another namespace
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		require.NoError(t, err)
		if slices.ContainsFunc(addrs, usable) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.Fail(t, "the address cannot be used")
}

// operatorRemoves removes an address as an operator would.
func operatorRemoves(t testing.TB, name, cidr string) {
	t.Helper()
	require.NoError(t, netlink.AddrDel(linkNamed(t, name), operatorAddr(t, cidr)))
}

func operatorAddr(t testing.TB, cidr string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	require.NoError(t, err)
	return a
}

// bound returns the prefixes in "of" that an interface has, in the kernel's order.
func bound(t testing.TB, name string, of ...netip.Prefix) []netip.Prefix {
	t.Helper()
	addrs, err := netlink.AddrList(linkNamed(t, name), unix.AF_UNSPEC)
	require.NoError(t, err)
	got := []netip.Prefix{}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a.IPNet.String())
		for _, o := range of {
			if p == o {
				got = append(got, p)
			}
		}
	}
	return got
}

// kernelAddress returns the kernel's entry of one address.
func kernelAddress(t testing.TB, name string, p netip.Prefix) netlink.Addr {
	t.Helper()
	addrs, err := netlink.AddrList(linkNamed(t, name), unix.AF_UNSPEC)
	require.NoError(t, err)
	for _, a := range addrs {
		if a.IPNet.String() == p.String() {
			return a
		}
	}
	require.FailNow(t, "no such address", "%s on %s", p, name)
	return netlink.Addr{}
}

// requireLifetime checks that an address was given a valid lifetime of this many whole
// seconds, at some time after start. The kernel counts it down in whole seconds.
func requireLifetime(t testing.TB, name string, p netip.Prefix, seconds int, start time.Time) {
	t.Helper()
	left := kernelAddress(t, name, p).ValidLft
	require.LessOrEqual(t, left, seconds)
	// One second more, because the kernel's clock ticks apart from ours.
	require.GreaterOrEqual(t, left, seconds-int(time.Since(start)/time.Second)-1)
}

// disablePromotion makes the kernel remove the secondary addresses of an interface
// with the primary one. This is the kernel's default, but a namespace may inherit
// another setting from the host.
func disablePromotion(t testing.TB, name string) {
	t.Helper()
	for _, conf := range []string{"all", name} {
		path := "/proc/sys/net/ipv4/conf/" + conf + "/promote_secondaries"
		value, err := os.ReadFile(path)
		require.NoError(t, err)
		if string(value) != "0\n" { // /proc/sys may be read-only
			require.NoError(t, os.WriteFile(path, []byte("0"), 0))
		}
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func parseMAC(t testing.TB, s string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(s)
	require.NoError(t, err)
	return m
}
