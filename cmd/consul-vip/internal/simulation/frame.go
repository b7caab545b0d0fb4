package simulation

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"

	"github.com/consul-vip/consul-vip/announcer"
)

// mac is the MAC of a station.
type mac [6]byte

var everybody = mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func (m mac) String() string { return net.HardwareAddr(m[:]).String() }

// isGroup reports whether frames to m reach several stations.
func (m mac) isGroup() bool { return m[0]&1 != 0 }

// operation is what a frame does: it asks for an address, or says who has one. The
// numbers are those of ARP. In neighbor discovery a solicitation asks, and an
// advertisement replies.
type operation uint16

const (
	opRequest operation = 1
	opReply   operation = 2
)

// frame is an ARP packet or a message of neighbor discovery, and its way on the segment.
// It is immutable.
type frame struct {
	from, to  mac
	family    announcer.Family
	operation operation
	sender    netip.Addr // of a reply: the address that the sender has
	senderMAC mac
	target    netip.Addr // of a reply: to whom it is said
	nonce     mac        // of a request; zero: none
	payload   []byte
}

// claim encodes a frame that says to a station, or to everybody, that another one has an
// address, as arping does.
func claim(from, to mac, addr netip.Addr) frame {
	if addr.Is4() {
		return newARP(from, to, opRequest, addr, addr)
	}
	return newAdvertisement(from, to, addr, allNodes)
}

// probe encodes the frame of a station that is about to take an address (RFC 5227, section
// 2.1.1; RFC 4862, section 5.4.2).
func probe(from mac, addr netip.Addr) frame {
	if addr.Is4() {
		return newARP(from, everybody, opRequest, netip.IPv4Unspecified(), addr)
	}
	return newNDP(from, everybody, netip.IPv6Unspecified(), solicitedNode(addr), &ndp.NeighborSolicitation{TargetAddress: addr})
}

// answer encodes the answer of the station that has what is asked for.
func answer(asked frame, own mac) frame {
	switch {
	case asked.family == announcer.IPv4:
		return newARP(own, asked.senderMAC, opReply, asked.target, asked.sender)
	case asked.sender.IsUnspecified(): // RFC 4861, section 7.2.4
		return newAdvertisement(own, everybody, asked.target, allNodes)
	}
	return newAdvertisement(own, asked.senderMAC, asked.target, asked.sender)
}

const arpLength = 28

func newARP(from, to mac, op operation, sender, target netip.Addr) frame {
	payload := make([]byte, arpLength)
	copy(payload, []byte{0, 1, 8, 0, 6, 4, 0, byte(op)})
	copy(payload[8:], from[:])
	copy(payload[14:], sender.AsSlice())
	if op == opReply {
		copy(payload[18:], to[:])
	}
	copy(payload[24:], target.AsSlice())
	return parseFrame(from, to, payload)
}

var allNodes = netip.MustParseAddr("ff02::1")

// solicitedNode returns the group in which stations are asked for an address (RFC 4291,
// section 2.7.1).
func solicitedNode(addr netip.Addr) netip.Addr {
	group, a := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}

func newAdvertisement(from, to mac, addr, destination netip.Addr) frame {
	return newNDP(from, to, addr, destination, &ndp.NeighborAdvertisement{
		Solicited: !destination.IsMulticast(), Override: true, TargetAddress: addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: from[:]}},
	})
}

const (
	ipv6Header = 40
	icmpv6     = 58
)

func newNDP(from, to mac, source, destination netip.Addr, m ndp.Message) frame {
	if group := destination.As16(); to == everybody { // RFC 2464, section 7
		to = mac{0x33, 0x33, group[12], group[13], group[14], group[15]}
	}
	body, err := ndp.MarshalMessageChecksum(m, source, destination)
	if err != nil {
		panic(err)
	}
	payload := make([]byte, ipv6Header, ipv6Header+len(body))
	payload[0], payload[6], payload[7] = 6<<4, icmpv6, 255
	binary.BigEndian.PutUint16(payload[4:], uint16(len(body)))
	copy(payload[8:], source.AsSlice())
	copy(payload[24:], destination.AsSlice())
	return parseFrame(from, to, append(payload, body...))
}

// parseFrame decodes what the announcer sends.
func parseFrame(from, to mac, payload []byte) frame {
	if payload[0]>>4 == 6 {
		return parseNDP(frame{from: from, to: to, family: announcer.IPv6, senderMAC: from, payload: payload})
	}
	f := frame{from: from, to: to, family: announcer.IPv4, payload: payload}
	f.operation = operation(binary.BigEndian.Uint16(payload[6:]))
	copy(f.senderMAC[:], payload[8:])
	f.sender = netip.AddrFrom4([4]byte(payload[14:18]))
	if f.operation == opRequest {
		copy(f.nonce[:], payload[18:]) // means nothing to other programs (RFC 5227, section 2.1.1)
	}
	f.target = netip.AddrFrom4([4]byte(payload[24:28]))
	return f
}

func parseNDP(f frame) frame {
	source, _ := netip.AddrFromSlice(f.payload[8:24])
	destination, _ := netip.AddrFromSlice(f.payload[24:40])
	parsed, err := ndp.ParseMessage(f.payload[ipv6Header:])
	if err != nil {
		panic(err)
	}
	var options []ndp.Option
	switch m := parsed.(type) {
	case *ndp.NeighborSolicitation:
		f.operation, f.sender, f.target, options = opRequest, source, m.TargetAddress, m.Options
	case *ndp.NeighborAdvertisement:
		f.operation, f.sender, f.target, options = opReply, m.TargetAddress, destination, m.Options
	}
	for _, o := range options {
		switch o := o.(type) {
		case *ndp.LinkLayerAddress:
			copy(f.senderMAC[:], o.Addr)
		case *ndp.Nonce:
			nonce, _ := hex.DecodeString(o.String())
			copy(f.nonce[:], nonce)
		}
	}
	return f
}

// String says what the frame means.
func (f frame) String() string {
	way := fmt.Sprintf("%s > %s", f.from, f.to)
	switch {
	case f.probes() && f.nonce != mac{}:
		return fmt.Sprintf("%s: probe for %s, with nonce %s", way, f.target, hex.EncodeToString(f.nonce[:]))
	case f.probes():
		return fmt.Sprintf("%s: probe for %s", way, f.target)
	case f.operation == opRequest && f.sender == f.target, f.operation == opReply && f.to.isGroup():
		return fmt.Sprintf("%s: %s announces %s", way, f.senderMAC, f.sender)
	case f.operation == opReply:
		return fmt.Sprintf("%s: %s has %s", way, f.senderMAC, f.sender)
	}
	return fmt.Sprintf("%s: %s asks for %s", way, f.sender, f.target)
}

// probes reports whether the sender of the frame has no address.
func (f frame) probes() bool { return f.operation == opRequest && f.sender.IsUnspecified() }
