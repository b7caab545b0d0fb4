package agent

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/netif"
)

// A meetingWire tells which gateways are to be met, and from which address.
type meetingWire struct {
	segment
	met chan [2]string
}

func (m *meetingWire) Meet(_ context.Context, source, host netip.Addr) error {
	m.met <- [2]string{source.String(), host.String()}
	return nil
}

// TestMeetGateways has a link meet its gateways, again after they have changed, and after
// an address has begun to use the wire.
func TestMeetGateways(t *testing.T) {
	wire := &meetingWire{met: make(chan [2]string)}
	l := newLink(&net.Interface{Index: 2, Name: "eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, wire)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.meetGateways(ctx) }()

	set := func(id netif.Identity) {
		state, _ := l.state.Get()
		state.identity = id
		l.state.Set(state)
	}
	both := [][2]string{{"10.0.0.11", "10.0.0.254"}, {"fe80::11", "fe80::254"}}
	id := netif.Identity{
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.11/24")}, LinkLocal: netip.MustParseAddr("fe80::11"),
		Gateway: netip.MustParseAddr("10.0.0.254"), Gateway6: netip.MustParseAddr("fe80::254"),
	}
	set(id)
	require.ElementsMatch(t, both, [][2]string{<-wire.met, <-wire.met})
	l.used.Set()
	require.ElementsMatch(t, both, [][2]string{<-wire.met, <-wire.met})
	id.Gateway6 = netip.Addr{}
	set(id)
	require.Equal(t, both[0], <-wire.met)
	id.Addrs = nil // there is no address to ask from
	set(id)
	cancel()
	require.NoError(t, <-ended)
}
