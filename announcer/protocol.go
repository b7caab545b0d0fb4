package announcer

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Family is the family of the addresses of a [Wire].
type Family int

// The families. Their hosts ask for addresses by ARP and by neighbor discovery.
const (
	IPv4 Family = iota
	IPv6
)

// String returns the name of the family, such as "IPv4".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return fmt.Sprintf("family %d", int(f))
}

// Of returns the family of an address. An IPv4 address may be in IPv6 notation.
func Of(addr netip.Addr) Family {
	if addr.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// has reports whether addr is an address of the family.
func (f Family) has(addr netip.Addr) bool { return addr.IsValid() && Of(addr) == f }

// protocol is how the hosts of a segment ask for the addresses of a family, and answer.
type protocol struct {
	etherType uint16

	// announcements encodes the frames that tell every station of the segment which MAC
	// has addr. router: this host forwards packets.
	announcements func(own net.HardwareAddr, addr netip.Addr, f Form, router bool) []Outbound

	// request asks for target from an address of this host.
	request func(to, own net.HardwareAddr, source, target netip.Addr) Outbound

	// probe asks for addr, in a frame that nobody takes for a claim of it. source is an
	// address of this host, or the zero Addr.
	probe func(to, own net.HardwareAddr, source, addr netip.Addr) Outbound

	// word encodes a probe from no address that carries a nonce.
	word func(to, own net.HardwareAddr, addr netip.Addr, n Nonce) Outbound

	// decode returns what a received frame says. The verdict is VerdictClaim if its sender
	// has an address, VerdictProbe if it has none, else the reason why it says nothing.
	decode func(Inbound) (message, Verdict)
}

var protocols = map[Family]protocol{
	IPv4: {
		etherType:     unix.ETH_P_ARP,
		announcements: arpAnnouncements,
		request:       arpRequest,
		probe:         arpProbe,
		word:          arpWord,
		decode:        func(in Inbound) (message, Verdict) { return arpMessage(in.Payload) },
	},
	IPv6: {
		etherType:     unix.ETH_P_IPV6,
		announcements: ndpAnnouncements,
		request:       ndpRequest,
		probe:         ndpProbe,
		word:          ndpWord,
		decode:        func(in Inbound) (message, Verdict) { return ndpMessage(in.Payload, in.From) },
	},
}
