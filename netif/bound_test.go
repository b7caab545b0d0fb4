package netif

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestBoundAndRemove(t *testing.T) {
	for _, p := range []netip.Prefix{prefix("10.77.0.100/24"), prefix("fd00::100/64")} {
		t.Run(p.String(), func(t *testing.T) {
			newNetns(t)
			eth0, eth1 := newVeth(t, "eth0", "peer0"), newVeth(t, "eth1", "peer1")
			h := newHost(t)
			addr := p.Addr()
			found, err := h.Bound(addr)
			require.NoError(t, err)
			require.Empty(t, found)
			require.NoError(t, h.Remove(eth0, addr), "it is not there")

			operatorAdds(t, "eth0", p.String())
			other := netip.PrefixFrom(addr, addr.BitLen())
			operatorAdds(t, "eth1", other.String())
			found, err = h.Bound(addr)
			require.NoError(t, err)
			require.ElementsMatch(t, []Binding{{eth0, "eth0", p, 0}, {eth1, "eth1", other, 0}}, found)

			require.NoError(t, h.Remove(eth0, addr))
			found, err = h.Bound(addr)
			require.NoError(t, err)
			require.Equal(t, []Binding{{eth1, "eth1", other, 0}}, found)
		})
	}
}

// TestTags has two programs of ours on one host. Neither takes the other's address for a
// leftover, and neither takes it for the host's own.
func TestTags(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	agent := newHost(t)
	announcer, err := Open(AnnounceTag, hclog.NewNullLogger())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, announcer.Close()) })
	p := prefix("10.77.0.100/24")
	for by, others := range map[*Host]*Host{agent: announcer, announcer: agent} {
		a, err := by.Bind(eth0, p, time.Minute)
		require.NoError(t, err)
		found, err := others.Bound(p.Addr())
		require.NoError(t, err)
		require.Equal(t, []Binding{{eth0, "eth0", p, by.tag}}, found)

		_, err = others.Bind(eth0, p, time.Minute)
		require.ErrorIs(t, err, ErrForeign)
		require.ErrorIs(t, others.Foreign(p.Addr()), ErrForeign)
		_, err = others.Clear([]netip.Addr{p.Addr()})
		require.ErrorIs(t, err, ErrForeign)
		identity, err := others.Identity(eth0)
		require.NoError(t, err)
		require.Empty(t, identity.Addrs)
		_, err = others.Find(p.Addr().Next(), "")
		require.ErrorIs(t, err, ErrNoInterface)

		_, err = by.Bind(eth0, p, time.Minute)
		require.NoError(t, err, "its own leftover")
		require.NoError(t, a.Unbind())
	}
}

func TestNeighbor(t *testing.T) {
	for _, p := range []netip.Prefix{prefix("10.77.0.1/24"), prefix("fd00::1/64")} {
		t.Run(p.String(), func(t *testing.T) {
			newNetns(t)
			eth0, eth1 := newVeth(t, "eth0", "peer0"), newVeth(t, "eth1", "peer1")
			h := newHost(t)
			addr, mac := p.Addr().Next(), parseMAC(t, "02:00:00:00:00:09")
			entry := func(state int) *netlink.Neigh {
				return &netlink.Neigh{LinkIndex: eth0, IP: addr.AsSlice(), HardwareAddr: mac, State: state, Family: family(addr)}
			}
			requireMAC := func(want string, index int, addr netip.Addr) {
				t.Helper()
				got, err := h.Neighbor(index, addr)
				require.NoError(t, err)
				require.Equal(t, want, got.String())
			}
			requireMAC("", eth0, addr)
			for _, state := range []int{unix.NUD_PERMANENT, unix.NUD_REACHABLE, unix.NUD_STALE} {
				require.NoError(t, netlink.NeighSet(entry(state)))
				requireMAC(mac.String(), eth0, addr)
				requireMAC("", eth0, addr.Next())
				requireMAC("", eth1, addr)
			}
			require.NoError(t, netlink.NeighSet(entry(unix.NUD_FAILED)))
			requireMAC("", eth0, addr)
		})
	}
}

func TestParseNeighborRefusesNonsense(t *testing.T) {
	for _, m := range [][]byte{nil, make([]byte, ndmsgLen-1), append(make([]byte, ndmsgLen), 9, 0, 1, 0)} {
		_, err := parseNeighbor(m)
		require.Error(t, err)
	}
}
