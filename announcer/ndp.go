package announcer

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
)

// Neighbor discovery for IPv6 (RFC 4861) over Ethernet (RFC 2464). What ARP says in one
// kind of frame, a solicitation asks and an advertisement answers.
const (
	ipv6HeaderLen = 40
	ipv6ICMP      = 58

	// ndpHopLimit shows that no router has forwarded a message (RFC 4861, sections 7.1.1
	// and 7.1.2).
	ndpHopLimit = 255

	ndpSolicitation  = 135
	ndpAdvertisement = 136

	// ndpNonce is the option with which a host recognizes its own solicitations (RFC
	// 3971, section 5.3.2).
	ndpNonce = 14
)

// ndpFilter is the filter of a packet socket, which begins at the IPv6 header. The kernel
// drops all other packets before they cost more than the filter itself.
var ndpFilter = mustAssemble([]bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 1}, // next header
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ipv6ICMP, SkipTrue: 4},
	bpf.LoadAbsolute{Off: ipv6HeaderLen, Size: 1}, // type of the message
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: ndpSolicitation, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ndpAdvertisement, SkipTrue: 1},
	bpf.RetConstant{Val: maxPayload},
	bpf.RetConstant{Val: 0},
})

func mustAssemble(program []bpf.Instruction) []bpf.RawInstruction {
	raw, err := bpf.Assemble(program)
	if err != nil {
		panic(err)
	}
	return raw
}

// allNodes is the group of all hosts of a segment (RFC 4291, section 2.7.1).
var allNodes = netip.MustParseAddr("ff02::1")

// solicitedNode returns the group in which a host is asked for addr (RFC 4291, section
// 2.7.1). Every host that has the address is a member.
func solicitedNode(addr netip.Addr) netip.Addr {
	group, a := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}

// groupMAC returns the MAC of a multicast group (RFC 2464, section 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	a := group.As16()
	return net.HardwareAddr{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// ndpAnnouncements encodes an unsolicited advertisement: it replaces what caches know of
// addr (RFC 4861, section 7.2.6). A host that forwards packets says so, or others would
// no longer use it as a router (section 7.2.5).
func ndpAnnouncements(own net.HardwareAddr, addr netip.Addr, _ Form, router bool) []Outbound {
	return []Outbound{ndpFrame(groupMAC(allNodes), addr, allNodes, &ndp.NeighborAdvertisement{
		Router: router, Override: true, TargetAddress: addr,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: own}},
	})}
}

// ndpProbe encodes a solicitation for addr. One from no address is answered to everybody,
// so a single host is asked from an address of this host, if there is one.
func ndpProbe(to, own net.HardwareAddr, source, addr netip.Addr) Outbound {
	if !IsStation(to) || !source.IsValid() {
		return ndpWord(to, own, addr, Nonce{})
	}
	return ndpRequest(to, own, source, addr)
}

// ndpRequest encodes a solicitation for target from an address of this host. Caches learn
// the MAC of that address from it, and the answer comes to it alone (RFC 4861, section
// 7.2.3 and 7.2.4). It is sent to the group in any case: a host that does not have the
// address would forward a packet to the address itself.
func ndpRequest(to, own net.HardwareAddr, source, target netip.Addr) Outbound {
	return ndpFrame(ndpTarget(to, target), source, solicitedNode(target), &ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: own}},
	})
}

// ndpWord encodes a solicitation from no address, which looks like the one of a host that
// is about to take addr (RFC 4862, section 5.4.2), and carries a nonce unless that is
// zero. The host that has the address answers to everybody.
func ndpWord(to, _ net.HardwareAddr, addr netip.Addr, n Nonce) Outbound {
	m := &ndp.NeighborSolicitation{TargetAddress: addr}
	if n != (Nonce{}) {
		m.Options = []ndp.Option{&ndp.RawOption{Type: ndpNonce, Length: 1, Value: n[:]}}
	}
	return ndpFrame(ndpTarget(to, addr), netip.IPv6Unspecified(), solicitedNode(addr), m)
}

// ndpTarget returns the MAC to send a solicitation to: everybody's is that of the group.
func ndpTarget(to net.HardwareAddr, target netip.Addr) net.HardwareAddr {
	if to[0]&1 != 0 {
		return groupMAC(solicitedNode(target))
	}
	return to
}

func ndpFrame(to net.HardwareAddr, source, destination netip.Addr, m ndp.Message) Outbound {
	body, err := ndp.MarshalMessageChecksum(m, source, destination)
	if err != nil {
		panic(err) // only for addresses that are not IPv6, or MACs of another length
	}
	b := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(body))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	b[6], b[7] = ipv6ICMP, ndpHopLimit
	copy(b[8:], source.AsSlice())
	copy(b[24:], destination.AsSlice())
	return Outbound{To: to, Payload: append(b, body...)}
}

// ndpMessage decodes a received frame from a MAC. The verdict is VerdictClaim if its
// sender has an address, VerdictProbe if it has none, else the reason why the frame says
// nothing. What RFC 4861, sections 7.1.1 and 7.1.2, tells a host to discard is malformed.
func ndpMessage(payload []byte, from net.HardwareAddr) (message, Verdict) {
	source, destination, body, verdict := ndpBody(payload)
	if verdict != VerdictClaim {
		return message{}, verdict
	}
	parsed, err := ndp.ParseMessage(body)
	if err != nil {
		return message{}, VerdictMalformed
	}
	switch p := parsed.(type) {
	case *ndp.NeighborSolicitation:
		return solicitation(p, source, destination, from)
	case *ndp.NeighborAdvertisement:
		return advertisement(p, destination, from)
	}
	return message{}, VerdictForeign
}

// ndpBody returns the addresses and the ICMPv6 message of a packet.
func ndpBody(payload []byte) (source, destination netip.Addr, body []byte, verdict Verdict) {
	if len(payload) < ipv6HeaderLen || payload[0]>>4 != 6 {
		return source, destination, nil, VerdictMalformed
	}
	length := int(binary.BigEndian.Uint16(payload[4:]))
	rest := payload[ipv6HeaderLen:]
	switch {
	case payload[6] != ipv6ICMP:
		return source, destination, nil, VerdictForeign
	case length > len(rest), length < 24: // a target address
		return source, destination, nil, VerdictMalformed
	}
	source, _ = netip.AddrFromSlice(payload[8:24])
	destination, _ = netip.AddrFromSlice(payload[24:40])
	body = rest[:length]
	switch {
	case body[0] != ndpSolicitation && body[0] != ndpAdvertisement:
		return source, destination, nil, VerdictForeign
	case payload[7] != ndpHopLimit, body[1] != 0, icmpv6Sum(source, destination, body) != 0:
		return source, destination, nil, VerdictMalformed
	}
	return source, destination, body, VerdictClaim
}

// icmpv6Sum returns the checksum over a message with its pseudo-header; 0: the message's
// own is right (RFC 4443, section 2.3).
func icmpv6Sum(source, destination netip.Addr, body []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(source.AsSlice())
	add(destination.AsSlice())
	sum += uint32(len(body)) + ipv6ICMP
	add(body)
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// solicitation says that its source has the MAC of the option, as caches learn it (RFC
// 4861, section 7.2.3).
func solicitation(p *ndp.NeighborSolicitation, source, destination netip.Addr, from net.HardwareAddr) (message, Verdict) {
	mac, has := linkLayerAddress(p.Options, ndp.Source)
	m := message{mac: slices.Clone(from), sender: source, target: p.TargetAddress}
	switch {
	case p.TargetAddress.IsMulticast():
		return message{}, VerdictMalformed
	case source.IsUnspecified() && (has || destination != solicitedNode(p.TargetAddress)):
		return message{}, VerdictMalformed
	case source.IsUnspecified():
		m.nonce = nonceOption(p.Options)
		return m, VerdictProbe
	case has:
		m.mac = mac
	}
	return m, VerdictClaim
}

// advertisement says that its target has the MAC of the option, whatever its source (RFC
// 4861, section 7.2.5).
func advertisement(p *ndp.NeighborAdvertisement, destination netip.Addr, from net.HardwareAddr) (message, Verdict) {
	if p.TargetAddress.IsMulticast() || p.TargetAddress.IsUnspecified() || p.Solicited && destination.IsMulticast() {
		return message{}, VerdictMalformed
	}
	m := message{mac: slices.Clone(from), sender: p.TargetAddress, target: destination, reply: true}
	if mac, has := linkLayerAddress(p.Options, ndp.Target); has {
		m.mac = mac
	}
	return m, VerdictClaim
}

// linkLayerAddress returns the MAC of an option.
func linkLayerAddress(options []ndp.Option, of ndp.Direction) (net.HardwareAddr, bool) {
	for _, o := range options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == of {
			return slices.Clone(l.Addr), true
		}
	}
	return nil, false
}

// nonceOption returns the nonce of a solicitation, if it is one of ours: six bytes.
func nonceOption(options []ndp.Option) (n Nonce) {
	for _, o := range options {
		if nonce, ok := o.(*ndp.Nonce); ok {
			if b, err := hex.DecodeString(nonce.String()); err == nil && len(b) == len(n) {
				copy(n[:], b)
			}
		}
	}
	return n
}
