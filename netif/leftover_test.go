package netif

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBindReplacesLeftover(t *testing.T) {
	newNetns(t)
	eth0, eth1 := newVeth(t, "eth0", "peer0"), newVeth(t, "eth1", "peer1")
	previous, h := newHost(t), newHost(t)
	exact, shorter, elsewhere := prefix("10.77.0.100/32"), prefix("10.77.0.101/24"), prefix("10.77.0.102/32")
	for p, index := range map[netip.Prefix]int{exact: eth0, shorter: eth0, elsewhere: eth1} {
		_, err := previous.Bind(index, p, 2*time.Minute)
		require.NoError(t, err)
	}

	for _, p := range []netip.Prefix{exact, shorter, elsewhere} {
		p := netip.PrefixFrom(p.Addr(), 32)
		start := time.Now()
		_, err := h.Bind(eth0, p, 20*time.Second)
		require.NoError(t, err)
		requireLifetime(t, "eth0", p, 20, start)
	}
	require.Empty(t, bound(t, "eth0", shorter))
	require.Empty(t, bound(t, "eth1", elsewhere))
}

func TestClear(t *testing.T) {
	newNetns(t)
	eth0, eth1 := newVeth(t, "eth0", "peer0"), newVeth(t, "eth1", "peer1")
	previous, h := newHost(t), newHost(t)
	leftovers := []netip.Prefix{prefix("10.77.0.100/32"), prefix("10.77.0.101/24"), prefix("fd00::100/128")}
	addrs := []netip.Addr{prefix("10.77.0.99/32").Addr()} // one without a leftover
	for _, p := range leftovers {
		addrs = append(addrs, p.Addr())
	}
	bind := func(index int, p netip.Prefix) {
		t.Helper()
		_, err := previous.Bind(index, p, time.Minute)
		require.NoError(t, err)
	}
	bind(eth0, leftovers[0])
	bind(eth1, leftovers[1])
	bind(eth1, leftovers[2])
	others := prefix("10.77.0.200/32") // of another instance on the same host
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

func TestClearRemovesNothingIfOneIsForeign(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	previous, h := newHost(t), newHost(t)
	leftover, foreign := prefix("10.77.0.100/32"), prefix("10.77.0.101/32")
	_, err := previous.Bind(eth0, leftover, time.Minute)
	require.NoError(t, err)
	operatorAdds(t, "eth0", foreign.String())

	cleared, err := h.Clear([]netip.Addr{leftover.Addr(), foreign.Addr()})
	require.ErrorIs(t, err, ErrForeign)
	require.Empty(t, cleared)
	require.Equal(t, []netip.Prefix{leftover, foreign}, bound(t, "eth0", leftover, foreign))
}
