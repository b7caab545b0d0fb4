package netif

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestBindRefreshUnbind(t *testing.T) {
	for _, p := range []netip.Prefix{prefix("10.77.0.100/32"), prefix("fd00::100/128")} {
		t.Run(p.String(), func(t *testing.T) {
			newNetns(t)
			eth0 := newVeth(t, "eth0", "peer0")
			h := newHost(t)

			start := time.Now()
			a, err := h.Bind(eth0, p, 20900*time.Millisecond)
			require.NoError(t, err)
			requireLifetime(t, "eth0", p, 20, start)
			got := kernelAddress(t, "eth0", p)
			if p.Addr().Is4() {
				require.Equal(t, got.ValidLft, got.PreferedLft)
			} else {
				require.Zero(t, got.PreferedLft)
			}
			require.True(t, tagged(t, h, p), "the kernel keeps the tag (Linux 5.18 and newer)")

			start = time.Now()
			restored, err := a.Refresh(60 * time.Second)
			require.NoError(t, err)
			require.False(t, restored)
			requireLifetime(t, "eth0", p, 60, start)
			require.True(t, tagged(t, h, p))

			start = time.Now()
			extended, err := a.Extend(40 * time.Second)
			require.NoError(t, err)
			require.True(t, extended)
			requireLifetime(t, "eth0", p, 40, start)
			require.True(t, tagged(t, h, p))

			operatorRemoves(t, "eth0", p.String())
			extended, err = a.Extend(60 * time.Second)
			require.NoError(t, err)
			require.False(t, extended)
			require.Empty(t, bound(t, "eth0", p), "it is not added")
			restored, err = a.Refresh(60 * time.Second)
			require.NoError(t, err)
			require.True(t, restored)
			require.True(t, tagged(t, h, p))

			require.NoError(t, a.Unbind())
			require.Empty(t, bound(t, "eth0", p))
			require.NoError(t, a.Unbind(), "gone already")

			_, err = a.Refresh(60 * time.Second)
			require.ErrorIs(t, err, ErrUnbound)
			_, err = a.Extend(60 * time.Second)
			require.ErrorIs(t, err, ErrUnbound)
			require.Empty(t, bound(t, "eth0", p), "no refresh binds an unbound address again")
		})
	}
}

// tagged reports whether the host has p with our tag.
func tagged(t *testing.T, h *Host, p netip.Prefix) bool {
	t.Helper()
	found, err := h.addresses(family(p.Addr()))
	require.NoError(t, err)
	for _, f := range found {
		if f.prefix == p {
			return f.tag == AgentTag
		}
	}
	require.FailNow(t, "not bound", "%s", p)
	return false
}

func TestLifetimeOutOfRange(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	p := prefix("10.77.0.100/32")

	start := time.Now()
	a, err := h.Bind(eth0, p, 30*time.Second)
	require.NoError(t, err)
	for _, lifetime := range []time.Duration{-time.Second, 0, 999 * time.Millisecond, 1 << 32 * time.Second} {
		_, err = h.Bind(eth0, prefix("10.77.0.101/32"), lifetime)
		require.ErrorIs(t, err, ErrLifetime)
		_, err = a.Refresh(lifetime)
		require.ErrorIs(t, err, ErrLifetime)
	}
	require.Empty(t, bound(t, "eth0", prefix("10.77.0.101/32")))
	requireLifetime(t, "eth0", p, 30, start) // unchanged
}

func TestLifetimeEnds(t *testing.T) {
	for _, p := range []netip.Prefix{prefix("10.77.0.100/32"), prefix("fd00::100/128")} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			newNetns(t)
			eth0 := newVeth(t, "eth0", "peer0")
			h := newHost(t)
			events := watch(t, h)

			// A busy machine may delay the event. One prompt removal proves that the
			// kernel did not.
			fastest := time.Hour
			for try := 0; try < 3 && fastest >= 3*time.Second; try++ {
				start := time.Now()
				_, err := h.Bind(eth0, p, time.Second)
				require.NoError(t, err)
				await(t, events, func(e AddressRemoved) bool { return e == AddressRemoved{Index: eth0, Addr: p.Addr()} })
				took := time.Since(start)
				t.Logf("a lifetime of 1 s ended after %v", took)
				require.Greater(t, took, 900*time.Millisecond)
				require.Empty(t, bound(t, "eth0", p))
				fastest = min(fastest, took)
			}
			require.Less(t, fastest, 3*time.Second)
		})
	}
}

func TestBindWithoutInterface(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	for _, p := range []netip.Prefix{prefix("10.77.0.100/32"), prefix("fd00::100/128")} {
		_, err := h.Bind(4711, p, time.Minute)
		require.ErrorIs(t, err, ErrNoInterface)
	}

	v4, err := h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.NoError(t, err)
	v6, err := h.Bind(eth0, prefix("fd00::100/128"), time.Minute)
	require.NoError(t, err)
	require.NoError(t, netlink.LinkDel(linkNamed(t, "eth0")))
	for _, a := range []*Address{v4, v6} {
		_, err = a.Refresh(time.Minute)
		require.ErrorIs(t, err, ErrNoInterface)
		require.NoError(t, a.Unbind(), "gone with its interface")
	}

	_, err = h.Bind(eth0, netip.Prefix{}, time.Minute)
	require.Error(t, err)
}

func TestUnbindKeepsOtherAddresses(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	operatorAdds(t, "eth0", "10.77.0.1/24")
	left := []netip.Prefix{prefix("10.77.0.1/24")}
	var addrs []*Address
	for i := range 20 {
		p := prefix(fmt.Sprintf("10.77.0.%d/32", 100+i))
		a, err := h.Bind(eth0, p, time.Minute)
		require.NoError(t, err)
		left, addrs = append(left, p), append(addrs, a)
	}
	all := left
	for _, a := range addrs {
		require.ElementsMatch(t, left, bound(t, "eth0", all...))
		require.NoError(t, a.Unbind())
		left = append(all[:1:1], left[2:]...)
	}
	require.Equal(t, []netip.Prefix{prefix("10.77.0.1/24")}, bound(t, "eth0", all...))
}

// An address of the host's own subnet is secondary to the host's own address: binding
// it changes no route, unbinding it removes nothing else.
func TestShorterPrefixWithHostAddress(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	own, vip := prefix("10.77.0.1/24"), prefix("10.77.0.100/24")
	operatorAdds(t, "eth0", own.String())

	a, err := h.Bind(eth0, vip, time.Minute)
	require.NoError(t, err)
	require.Equal(t, own.Addr().String(), sourceTo(t, "10.77.0.9"))
	require.NoError(t, a.Unbind())
	require.Equal(t, []netip.Prefix{own}, bound(t, "eth0", own, vip))
	require.Equal(t, own.Addr().String(), sourceTo(t, "10.77.0.9"))
}

// If the host has no address of its own in the subnet, the first VIP is primary and the
// kernel removes the others with it. Watch reports them, and Refresh binds them again.
func TestShorterPrefixesWithoutHostAddress(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	disablePromotion(t, "eth0")
	h := newHost(t)
	events := watch(t, h)
	first, second := prefix("10.77.0.100/24"), prefix("10.77.0.101/24")

	a, err := h.Bind(eth0, first, time.Minute)
	require.NoError(t, err)
	require.Equal(t, first.Addr().String(), sourceTo(t, "10.77.0.9"), "it brings the connected route")
	b, err := h.Bind(eth0, second, time.Minute)
	require.NoError(t, err)

	require.NoError(t, a.Unbind())
	await(t, events, func(e AddressRemoved) bool { return e.Addr == second.Addr() })
	restored, err := b.Refresh(time.Minute)
	require.NoError(t, err)
	require.True(t, restored)
	require.Equal(t, []netip.Prefix{second}, bound(t, "eth0", first, second))
}

// sourceTo returns the source address that the kernel selects for a destination.
func sourceTo(t *testing.T, addr string) string {
	t.Helper()
	routes, err := netlink.RouteGet(net.ParseIP(addr))
	require.NoError(t, err)
	require.Len(t, routes, 1)
	return routes[0].Src.String()
}

func TestIPv6IsUsableAtOnce(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)

	_, err := h.Bind(eth0, prefix("fd00::100/128"), time.Minute)
	require.NoError(t, err)
	// The kernel binds no socket to a tentative address.
	c, err := net.ListenPacket("udp6", "[fd00::100]:0")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NotZero(t, kernelAddress(t, "eth0", prefix("fd00::100/128")).Flags&unix.IFA_F_DEPRECATED,
		"not a source address for the host's own connections")
}

func TestBindAfterClose(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h, err := Open(AgentTag, hclog.NewNullLogger())
	require.NoError(t, err)
	require.NoError(t, h.Close())
	_, err = h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.Error(t, err)
}

func TestBindWhereIPv6IsDisabled(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0))
	h := newHost(t)
	_, err := h.Bind(eth0, prefix("fd00::100/128"), time.Minute)
	require.ErrorIs(t, err, ErrIPv6Disabled)
	_, err = h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.NoError(t, err)
}
