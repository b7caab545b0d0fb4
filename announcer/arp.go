package announcer

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
)

// The only kind of ARP there is for us: IPv4 over Ethernet (RFC 826).
const (
	arpEthernet = 1
	arpIPv4     = 0x0800
	ipv4Len     = 4
)

var unknownMAC = make(net.HardwareAddr, macLen)

// arpAnnouncements are the frames of one announcement. Some equipment learns
// from requests only, some from replies only, so each is said both ways.
var arpAnnouncements = [...]func(own net.HardwareAddr, addr netip.Addr) outbound{
	// An ARP Announcement: an ARP Probe but for the sender address, so the target
	// MAC is zero (RFC 5227, section 1.1 and 2.3).
	func(own net.HardwareAddr, addr netip.Addr) outbound {
		return arpFrame(broadcast, arp.OperationRequest, own, addr, unknownMAC, addr)
	},
	// A gratuitous reply: the target's MAC is the sender's (RFC 5944, section 4.6).
	func(own net.HardwareAddr, addr netip.Addr) outbound {
		return arpFrame(broadcast, arp.OperationReply, own, addr, own, addr)
	},
}

// arpProbe asks for addr without claiming it: the sender address is zero, so no
// cache learns from it (RFC 5227, section 1.1).
func arpProbe(to, own net.HardwareAddr, addr netip.Addr) outbound {
	return arpFrame(to, arp.OperationRequest, own, netip.IPv4Unspecified(), unknownMAC, addr)
}

func arpFrame(to net.HardwareAddr, op arp.Operation,
	senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) outbound {
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
	payload, _ := p.MarshalBinary() // documented never to fail
	return outbound{to: to, payload: payload}
}

// arpSender returns what a frame says of its sender: that addr is at mac. Where
// it says nothing the verdict tells why, else it is VerdictClaim so far.
//
// Requests and replies are believed alike, as by the caches out there (RFC 826;
// RFC 5227, section 2.4); the target fields do not matter.
func arpSender(payload []byte) (netip.Addr, net.HardwareAddr, Verdict) {
	var p arp.Packet
	if err := p.UnmarshalBinary(payload); err != nil {
		return netip.Addr{}, nil, VerdictMalformed
	}
	switch {
	case p.HardwareType != arpEthernet, p.ProtocolType != arpIPv4:
		return netip.Addr{}, nil, VerdictForeign
	case p.HardwareAddrLength != macLen, p.IPLength != ipv4Len:
		return netip.Addr{}, nil, VerdictMalformed
	case p.Operation != arp.OperationRequest && p.Operation != arp.OperationReply:
		return netip.Addr{}, nil, VerdictForeign
	case p.SenderIP.IsUnspecified():
		return netip.Addr{}, nil, VerdictProbe
	}
	return p.SenderIP, p.SenderHardwareAddr, VerdictClaim
}

// arpProbed returns what a frame judged a probe asks for, and who asks.
func arpProbed(payload []byte) (netip.Addr, net.HardwareAddr) {
	var p arp.Packet
	if err := p.UnmarshalBinary(payload); err != nil {
		return netip.Addr{}, nil
	}
	return p.TargetIP, p.SenderHardwareAddr
}
