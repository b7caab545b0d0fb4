package simulation

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// mac is the MAC of a station.
type mac [6]byte

var everybody = mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func (m mac) String() string { return net.HardwareAddr(m[:]).String() }

const (
	arpRequest = 1
	arpReply   = 2
	arpLength  = 28
)

// frame is an ARP packet and its way on the segment. It is immutable.
type frame struct {
	from, to  mac
	operation uint16
	sender    netip.Addr
	senderMAC mac
	target    netip.Addr
	targetMAC mac // that of a request means nothing to its receivers (RFC 5227, section 2.1.1)
	payload   []byte
}

// newFrame encodes an ARP packet.
func newFrame(from, to mac, operation uint16, sender, target netip.Addr) frame {
	f := frame{from: from, to: to, operation: operation, sender: sender, senderMAC: from, target: target}
	if operation == arpReply {
		f.targetMAC = to
	}
	payload := make([]byte, arpLength)
	copy(payload, []byte{0, 1, 8, 0, 6, 4, 0, byte(operation)})
	copy(payload[8:], from[:])
	copy(payload[14:], sender.AsSlice())
	copy(payload[18:], f.targetMAC[:])
	copy(payload[24:], target.AsSlice())
	f.payload = payload
	return f
}

// parseFrame decodes what the announcer sends.
func parseFrame(from, to mac, payload []byte) frame {
	f := frame{from: from, to: to, payload: payload}
	f.operation = binary.BigEndian.Uint16(payload[6:])
	copy(f.senderMAC[:], payload[8:])
	f.sender = netip.AddrFrom4([4]byte(payload[14:18]))
	copy(f.targetMAC[:], payload[18:])
	f.target = netip.AddrFrom4([4]byte(payload[24:28]))
	return f
}

// String says what the frame means.
func (f frame) String() string {
	way := fmt.Sprintf("%s > %s", f.from, f.to)
	switch {
	case f.probes() && f.targetMAC != mac{}:
		return fmt.Sprintf("%s: probe for %s, with nonce %x", way, f.target, f.targetMAC[:])
	case f.probes():
		return fmt.Sprintf("%s: probe for %s", way, f.target)
	case f.operation == arpRequest && f.sender == f.target, f.operation == arpReply && f.to == everybody:
		return fmt.Sprintf("%s: %s announces %s", way, f.senderMAC, f.sender)
	case f.operation == arpReply:
		return fmt.Sprintf("%s: %s has %s", way, f.senderMAC, f.sender)
	}
	return fmt.Sprintf("%s: %s asks for %s", way, f.sender, f.target)
}

// probes reports whether the frame is an ARP probe (RFC 5227, section 1.1).
func (f frame) probes() bool { return f.operation == arpRequest && f.sender.IsUnspecified() }
