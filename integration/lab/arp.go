package lab

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ARP operations.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// arpFrameLen is the length of an ARP frame for IPv4 without padding: 14 bytes of
// Ethernet header and 28 bytes of ARP.
const arpFrameLen = 14 + 28

// Stranger returns a hardware address that no host of a lab has.
func Stranger() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0xff, 1} }

// broadcast is the hardware address of all hosts.
var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ARP is an ARP frame for IPv4 over Ethernet. Its Ethernet source is SenderMAC.
type ARP struct {
	To        net.HardwareAddr // Ethernet destination; nil: all hosts
	Operation uint16
	SenderMAC net.HardwareAddr
	SenderIP  netip.Addr
	TargetMAC net.HardwareAddr // nil: zero, as in a request
	TargetIP  netip.Addr
}

// Gratuitous returns the frame by which mac claims ip to all hosts.
func Gratuitous(operation uint16, mac net.HardwareAddr, ip netip.Addr) ARP {
	return ARP{Operation: operation, SenderMAC: mac, SenderIP: ip, TargetIP: ip}
}

// Probe returns the frame by which mac asks whether a host has ip, without claiming
// an address itself (RFC 5227, section 2.1.1).
func Probe(mac net.HardwareAddr, ip netip.Addr) ARP {
	return ARP{Operation: ARPRequest, SenderMAC: mac, SenderIP: netip.IPv4Unspecified(), TargetIP: ip}
}

// Frame returns the 42 bytes of the frame.
func (a ARP) Frame() []byte {
	to, target := a.To, a.TargetMAC
	if to == nil {
		to = broadcast
	}
	if target == nil {
		target = make(net.HardwareAddr, 6)
	}
	b := make([]byte, 0, arpFrameLen)
	b = append(b, to...)
	b = append(b, a.SenderMAC...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_ARP)
	b = binary.BigEndian.AppendUint16(b, 1) // hardware: Ethernet
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IP)
	b = append(b, 6, 4) // lengths of a hardware and a protocol address
	b = binary.BigEndian.AppendUint16(b, a.Operation)
	b = append(b, a.SenderMAC...)
	b = append(b, a.SenderIP.AsSlice()...)
	b = append(b, target...)
	return append(b, a.TargetIP.AsSlice()...)
}

// parseARP is the inverse of Frame. The result refers to frame.
func parseARP(frame []byte) (a ARP, ok bool) {
	if len(frame) < arpFrameLen || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_ARP {
		return ARP{}, false
	}
	return ARP{
		To:        frame[0:6],
		Operation: binary.BigEndian.Uint16(frame[20:]),
		SenderMAC: frame[22:28],
		SenderIP:  netip.AddrFrom4([4]byte(frame[28:32])),
		TargetMAC: frame[32:38],
		TargetIP:  netip.AddrFrom4([4]byte(frame[38:42])),
	}, true
}

// Send sends a frame with any content from an interface of the host.
func (h *Host) Send(ifname string, frame []byte) error {
	s, err := h.openPacket(ifname, 0)
	if err != nil {
		return err
	}
	defer s.close()
	return s.write(frame)
}
