package netif

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestBindRefusesForeign(t *testing.T) {
	for _, foreign := range []string{"10.77.0.100/32", "10.77.0.100/24", "fd00::100/128", "fd00::100/64"} {
		for _, on := range []string{"eth0", "eth1"} {
			t.Run(foreign+" on "+on, func(t *testing.T) {
				newNetns(t)
				eth0 := newVeth(t, "eth0", "peer0")
				newVeth(t, "eth1", "peer1")
				h := newHost(t)
				operatorAdds(t, on, foreign)
				addr := prefix(foreign).Addr()
				require.Equal(t, &ForeignError{Addr: addr, Interface: on}, h.Foreign(addr))
				require.NoError(t, h.Foreign(addr.Next()))

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

func TestBindRefusesAddressAddedMeanwhile(t *testing.T) {
	newNetns(t)
	eth0 := newVeth(t, "eth0", "peer0")
	h := newHost(t)
	p := prefix("10.77.0.100/32")

	flags, err := h.prepareBind(eth0, p)
	require.NoError(t, err)
	operatorAdds(t, "eth0", p.String())
	require.ErrorIs(t, h.add(eth0, p, time.Minute, flags), unix.EEXIST, "Bind reports this error as foreign")
	require.False(t, tagged(t, h, p))
}

func TestTaken(t *testing.T) {
	for _, p := range []netip.Prefix{prefix("10.77.0.100/32"), prefix("fd00::100/128")} {
		t.Run(p.String(), func(t *testing.T) {
			newNetns(t)
			eth0 := newVeth(t, "eth0", "peer0")
			newVeth(t, "eth1", "peer1")
			h := newHost(t)
			a, err := h.Bind(eth0, p, time.Minute)
			require.NoError(t, err)
			require.NoError(t, a.Taken())

			// Another program replaces our address with its own.
			require.NoError(t, netlink.AddrReplace(linkNamed(t, "eth0"), operatorAddr(t, p.String())))
			var f *ForeignError
			require.ErrorAs(t, a.Taken(), &f)
			require.Equal(t, ForeignError{Addr: p.Addr(), Interface: "eth0"}, *f)

			require.NoError(t, a.Unbind())
			require.NoError(t, a.Taken(), "gone")
			operatorAdds(t, "eth1", p.String())
			require.ErrorAs(t, a.Taken(), &f)
			require.Equal(t, ForeignError{Addr: p.Addr(), Interface: "eth1"}, *f)
		})
	}
}
