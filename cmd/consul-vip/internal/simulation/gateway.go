package simulation

import "net/netip"

// gatewayAddrs are the addresses of the segment's router, if it is a machine of its own.
var gatewayAddrs = ownAddrs{
	v4:        netip.AddrFrom4([4]byte{10, 77, 0, 1}),
	v6:        netip.MustParseAddr("fd77::1"),
	linkLocal: netip.MustParseAddr("fe80::1"),
}

// gateway is the segment's router. It answers for its own addresses. The network's mutex
// guards it.
type gateway struct {
	net *network
	mac mac
	on  bool
}

func newGateway(n *network) *gateway {
	g := &gateway{net: n, mac: mac{2, 0, 0, 0, 0xfe, 1}, on: true}
	n.segment.stations = append(n.segment.stations, g)
	return g
}

func (g *gateway) address() mac    { return g.mac }
func (g *gateway) listening() bool { return g.on }

// receive implements station.
func (g *gateway) receive(f frame) {
	if f.operation == opRequest && gatewayAddrs.has(f.target) {
		g.net.segment.transmit(answer(f, g.mac))
	}
}
