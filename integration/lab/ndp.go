package lab

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// NDP is a frame of neighbor discovery (RFC 4861). Its Ethernet source is MAC.
type NDP struct {
	To          net.HardwareAddr // Ethernet destination; nil: that of the group Destination
	MAC         net.HardwareAddr
	Source      netip.Addr
	Destination netip.Addr
	Message     ndp.Message
}

// allNodes is the group of all hosts (RFC 4291, section 2.7.1).
var allNodes = netip.MustParseAddr("ff02::1")

// solicitedNode returns the group in which hosts are asked for addr.
func solicitedNode(addr netip.Addr) netip.Addr {
	group, a := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}

// Advertisement returns the frame by which mac claims ip to all hosts.
func Advertisement(mac net.HardwareAddr, ip netip.Addr) NDP {
	return NDP{MAC: mac, Source: ip, Destination: allNodes, Message: &ndp.NeighborAdvertisement{
		Override: true, TargetAddress: ip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	}}
}

// Solicitation returns the frame by which mac asks all hosts for ip, from an address. From
// no address it claims nothing (RFC 4862, section 5.4.2).
func Solicitation(mac net.HardwareAddr, from, ip netip.Addr) NDP {
	m := &ndp.NeighborSolicitation{TargetAddress: ip}
	if !from.IsUnspecified() {
		m.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}
	}
	return NDP{MAC: mac, Source: from, Destination: solicitedNode(ip), Message: m}
}

// Frame returns the bytes of the frame.
func (n NDP) Frame() []byte {
	to := n.To
	if to == nil {
		group := n.Destination.As16()
		to = append(net.HardwareAddr{0x33, 0x33}, group[12:]...) // RFC 2464, section 7
	}
	body, err := ndp.MarshalMessageChecksum(n.Message, n.Source, n.Destination)
	if err != nil {
		panic(err) // a mistake of the caller
	}
	b := append(append([]byte{}, to...), n.MAC...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IPV6)
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, unix.IPPROTO_ICMPV6, 255)
	b = append(b, n.Source.AsSlice()...)
	b = append(b, n.Destination.AsSlice()...)
	return append(b, body...)
}

// parseAdvertisement returns what an advertisement in a frame says: who has which address,
// and to whom it is said.
func parseAdvertisement(frame []byte) (mac net.HardwareAddr, addr, to netip.Addr, ok bool) {
	if len(frame) < ethernetLen+ipv6.HeaderLen {
		return nil, addr, to, false
	}
	header, err := ipv6.ParseHeader(frame[ethernetLen:])
	if err != nil || header.NextHeader != unix.IPPROTO_ICMPV6 || header.HopLimit != 255 {
		return nil, addr, to, false
	}
	m, err := ndp.ParseMessage(frame[ethernetLen+ipv6.HeaderLen:])
	if err != nil {
		return nil, addr, to, false
	}
	a, ok := m.(*ndp.NeighborAdvertisement)
	if !ok {
		return nil, addr, to, false
	}
	mac = net.HardwareAddr(frame[6:12])
	for _, o := range a.Options {
		if l, is := o.(*ndp.LinkLayerAddress); is && l.Direction == ndp.Target {
			mac = l.Addr
		}
	}
	to, _ = netip.AddrFromSlice(header.Dst)
	return mac, a.TargetAddress, to, true
}
