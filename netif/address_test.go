package netif

import (
	"fmt"
	"net"
	"net/netip"
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

			a, err := h.Bind(eth0, p, 5900*time.Millisecond)
			require.NoError(t, err)
			got := kernelAddress(t, "eth0", p)
			require.InDelta(t, 5, got.ValidLft, 1, "rounded down")
			require.LessOrEqual(t, got.ValidLft, 5)
			if p.Addr().Is4() {
				require.Equal(t, got.ValidLft, got.PreferedLft)
			} else {
				require.Zero(t, got.PreferedLft)
			}
			require.True(t, tagged(t, h, p), "the kernel keeps the tag (Linux 5.18 and newer)")

			restored, err := a.Refresh(60 * time.Second)
			require.NoError(t, err)
			require.False(t, restored)
			require.Greater(t, kernelAddress(t, "eth0", p).ValidLft, 50)
			require.True(t, tagged(t, h, p))

			take(t, "eth0", p.String())
			restored, err = a.Refresh(60 * time.Second)
			require.NoError(t, err)
			require.True(t, restored)
			require.True(t, tagged(t, h, p))

			require.NoError(t, a.Unbind())
			require.Empty(t, bound(t, "eth0", p))
			require.NoError(t, a.Unbind(), "gone already")

			_, err = a.Refresh(60 * time.Second)
			require.ErrorIs(t, err, ErrUnbound)
			require.Empty(t, bound(t, "eth0", p), "no refresh brings an unbound address back")
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
			return f.ours
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

	a, err := h.Bind(eth0, p, 30*time.Second)
	require.NoError(t, err)
	for _, lifetime := range []time.Duration{-time.Second, 0, 999 * time.Millisecond, 1 << 32 * time.Second} {
		_, err = h.Bind(eth0, prefix("10.77.0.101/32"), lifetime)
		require.ErrorIs(t, err, ErrLifetime)
		_, err = a.Refresh(lifetime)
		require.ErrorIs(t, err, ErrLifetime)
	}
	require.Empty(t, bound(t, "eth0", prefix("10.77.0.101/32")))
	require.InDelta(t, 30, kernelAddress(t, "eth0", p).ValidLft, 5, "unchanged")
}

func TestKernelUnbindsByItself(t *testing.T) {
	for _, p := range []netip.Prefix{prefix("10.77.0.100/32"), prefix("fd00::100/128")} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			newNetns(t)
			eth0 := newVeth(t, "eth0", "peer0")
			h := newHost(t)
			events := watch(t, h)

			start := time.Now()
			_, err := h.Bind(eth0, p, time.Second)
			require.NoError(t, err)
			await(t, events, func(e AddressRemoved) bool { return e == AddressRemoved{Index: eth0, Addr: p.Addr()} })
			took := time.Since(start)
			t.Logf("a lifetime of 1 s ended after %v", took)
			require.Greater(t, took, 900*time.Millisecond)
			require.Less(t, took, 3*time.Second)
			require.Empty(t, bound(t, "eth0", p))
		})
	}
}

func TestBindRefusesForeign(t *testing.T) {
	for _, foreign := range []string{"10.77.0.100/32", "10.77.0.100/24", "fd00::100/128", "fd00::100/64"} {
		for _, on := range []string{"eth0", "eth1"} {
			t.Run(foreign+" on "+on, func(t *testing.T) {
				newNetns(t)
				eth0 := newVeth(t, "eth0", "peer0")
				newVeth(t, "eth1", "peer1")
				h := newHost(t)
				give(t, on, foreign)
				addr := prefix(foreign).Addr()

				_, err := h.Bind(eth0, netip.PrefixFrom(addr, addr.BitLen()), time.Minute)
				require.ErrorIs(t, err, ErrForeign)
				var f *ForeignError
				require.ErrorAs(t, err, &f)
				require.Equal(t, ForeignError{Addr: addr, Interface: on}, *f)

				_, err = h.Clear([]netip.Addr{addr})
				require.ErrorIs(t, err, ErrForeign)
				require.Equal(t, []netip.Prefix{prefix(foreign)}, bound(t, on, prefix(foreign)))
			})
		}
	}
}

func TestBindWhenAddedMeanwhile(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	p := prefix("10.77.0.100/32")

	flags, err := h.makeWay(eth0, p)
	require.NoError(t, err)
	give(t, "eth0", p.String())
	require.ErrorIs(t, h.add(eth0, p, time.Minute, flags), unix.EEXIST, "what Bind calls foreign")
	require.False(t, tagged(t, h, p))
}

func TestBindTakesLeftoverOver(t *testing.T) {
	newNetns(t)
	eth0, eth1 := newVeth(t, "eth0", "peer0"), newVeth(t, "eth1", "peer1")
	dead, h := newHost(t), newHost(t)
	exact, shorter, elsewhere := prefix("10.77.0.100/32"), prefix("10.77.0.101/24"), prefix("10.77.0.102/32")
	for p, index := range map[netip.Prefix]int{exact: eth0, shorter: eth0, elsewhere: eth1} {
		_, err := dead.Bind(index, p, 2*time.Minute)
		require.NoError(t, err)
	}

	for _, p := range []netip.Prefix{exact, shorter, elsewhere} {
		_, err := h.Bind(eth0, netip.PrefixFrom(p.Addr(), 32), 20*time.Second)
		require.NoError(t, err)
		require.LessOrEqual(t, kernelAddress(t, "eth0", netip.PrefixFrom(p.Addr(), 32)).ValidLft, 20)
	}
	require.Empty(t, bound(t, "eth0", shorter))
	require.Empty(t, bound(t, "eth1", elsewhere))
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

func TestUnbindLeavesTheOthers(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	give(t, "eth0", "10.77.0.1/24")
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

// A shorter prefix among the host's own is secondary: it changes no route and
// goes alone.
func TestShorterPrefixBesideTheHostsOwn(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	own, vip := prefix("10.77.0.1/24"), prefix("10.77.0.100/24")
	give(t, "eth0", own.String())

	a, err := h.Bind(eth0, vip, time.Minute)
	require.NoError(t, err)
	require.Equal(t, own.Addr().String(), sourceTo(t, "10.77.0.9"))
	require.NoError(t, a.Unbind())
	require.Equal(t, []netip.Prefix{own}, bound(t, "eth0", own, vip))
	require.Equal(t, own.Addr().String(), sourceTo(t, "10.77.0.9"))
}

// Where the host has no address of its own in the subnet the first VIP is
// primary, and takes the others along; they are reported, and put back.
func TestShorterPrefixesAlone(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
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
	// A tentative address can be bound to no socket.
	c, err := net.ListenPacket("udp6", "[fd00::100]:0")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NotZero(t, kernelAddress(t, "eth0", prefix("fd00::100/128")).Flags&unix.IFA_F_DEPRECATED,
		"no source address for the host's own connections")
}

func TestClear(t *testing.T) {
	newNetns(t)
	eth0, eth1 := newVeth(t, "eth0", "peer0"), newVeth(t, "eth1", "peer1")
	dead, h := newHost(t), newHost(t)
	leftovers := []netip.Prefix{prefix("10.77.0.100/32"), prefix("10.77.0.101/24"), prefix("fd00::100/128")}
	addrs := []netip.Addr{prefix("10.77.0.99/32").Addr()} // one that nobody left
	for _, p := range leftovers {
		addrs = append(addrs, p.Addr())
	}
	bind := func(index int, p netip.Prefix) {
		t.Helper()
		_, err := dead.Bind(index, p, time.Minute)
		require.NoError(t, err)
	}
	bind(eth0, leftovers[0])
	bind(eth1, leftovers[1])
	bind(eth1, leftovers[2])
	others := prefix("10.77.0.200/32") // another instance's on the same host
	bind(eth0, others)

	cleared, err := h.Clear(addrs)
	require.NoError(t, err)
	require.ElementsMatch(t, leftovers, cleared)
	require.Empty(t, bound(t, "eth1", leftovers...))
	require.Equal(t, []netip.Prefix{others}, bound(t, "eth0", append(leftovers, others)...))

	cleared, err = h.Clear(addrs)
	require.NoError(t, err)
	require.Empty(t, cleared)
}

func TestClearRemovesNothingBesideAForeignAddress(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	dead, h := newHost(t), newHost(t)
	leftover, foreign := prefix("10.77.0.100/32"), prefix("10.77.0.101/32")
	_, err := dead.Bind(eth0, leftover, time.Minute)
	require.NoError(t, err)
	give(t, "eth0", foreign.String())

	cleared, err := h.Clear([]netip.Addr{leftover.Addr(), foreign.Addr()})
	require.ErrorIs(t, err, ErrForeign)
	require.Empty(t, cleared)
	require.Equal(t, []netip.Prefix{leftover, foreign}, bound(t, "eth0", leftover, foreign))
}

func TestClosed(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h, err := Open(hclog.NewNullLogger())
	require.NoError(t, err)
	require.NoError(t, h.Close())
	_, err = h.Bind(eth0, prefix("10.77.0.100/32"), time.Minute)
	require.Error(t, err)
}
