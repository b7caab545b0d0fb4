package announcer

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
)

// ARP for IPv4 over Ethernet (RFC 826); other kinds are not supported.
const (
	arpEthernet = 1
	arpIPv4     = 0x0800
	ipv4Len     = 4
)

var unknownMAC = make(net.HardwareAddr, macLen)

// arpAnnouncements encodes the frames of an announcement.
func arpAnnouncements(own net.HardwareAddr, addr netip.Addr, f Form, _ bool) []Outbound {
	// An ARP Announcement differs from an ARP Probe only in the sender address, so the
	// target MAC is zero (RFC 5227, sections 1.1 and 2.3).
	request := arpFrame(broadcast, arp.OperationRequest, own, addr, unknownMAC, addr)
	// In a gratuitous reply the target MAC is the sender's (RFC 5944, section 4.6).
	reply := arpFrame(broadcast, arp.OperationReply, own, addr, own, addr)
	switch f {
	case RequestOnly:
		return []Outbound{request}
	case ReplyOnly:
		return []Outbound{reply}
	}
	return []Outbound{request, reply}
}

// arpProbe encodes a probe. Its sender address is zero, so no cache learns from it
// (RFC 5227, section 1.1).
func arpProbe(to, own net.HardwareAddr, _, addr netip.Addr) Outbound {
	return arpWord(to, own, addr, Nonce{})
}

// arpRequest encodes a request for target from an address of this host. Caches learn
// the MAC of that address from it (RFC 826).
func arpRequest(to, own net.HardwareAddr, source, target netip.Addr) Outbound {
	return arpFrame(to, arp.OperationRequest, own, source, unknownMAC, target)
}

// arpWord encodes a probe that carries a nonce as target MAC. The zero Nonce makes it
// a plain probe.
func arpWord(to, own net.HardwareAddr, addr netip.Addr, n Nonce) Outbound {
	return arpFrame(to, arp.OperationRequest, own, netip.IPv4Unspecified(), n[:], addr)
}

func arpFrame(to net.HardwareAddr, op arp.Operation,
	senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) Outbound {
	p := arp.Packet{
		HardwareType:       arpEthernet,
		ProtocolType:       arpIPv4,
		HardwareAddrLength: macLen,
		IPLength:           ipv4Len,
		Operation:          op,
		SenderHardwareAddr: senderMAC,
		SenderIP:           sender,
		TargetHardwareAddr: targetMAC,
		TargetIP:           target,
	}
	payload, _ := p.MarshalBinary() // never fails, according to its documentation
	return Outbound{To: to, Payload: payload}
}

// arpMessage decodes a received frame. The verdict is VerdictClaim if its sender has an
// address, VerdictProbe if it has none, else the reason why the frame says nothing.
//
// Requests and replies count alike, as in an ARP cache (RFC 826; RFC 5227, section
// 2.4). The message does not share the buffer.
func arpMessage(payload []byte) (message, Verdict) {
	var p arp.Packet
	if err := p.UnmarshalBinary(payload); err != nil {
		return message{}, VerdictMalformed
	}
	switch {
	case p.HardwareType != arpEthernet, p.ProtocolType != arpIPv4:
		return message{}, VerdictForeign
	case p.HardwareAddrLength != macLen, p.IPLength != ipv4Len:
		return message{}, VerdictMalformed
	case p.Operation != arp.OperationRequest && p.Operation != arp.OperationReply:
		return message{}, VerdictForeign
	}
	m := message{mac: p.SenderHardwareAddr, sender: p.SenderIP, target: p.TargetIP, reply: p.Operation == arp.OperationReply}
	if !p.SenderIP.IsUnspecified() {
		return m, VerdictClaim
	}
	if !m.reply { // the target MAC of a reply is the receiver's
		copy(m.nonce[:], p.TargetHardwareAddr)
	}
	return m, VerdictProbe
}
