package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ParseAddress parses a floating address as a vip block names it: an IPv4 or IPv6 unicast
// address, with or without a prefix length. The error says what is wrong in a sentence.
func ParseAddress(s string) (netip.Prefix, error) {
	prefix, complaint := address(s)
	if complaint != "" {
		return netip.Prefix{}, errors.New(complaint)
	}
	return prefix, nil
}

// address accepts an IPv4 or IPv6 unicast address with or without a prefix length.
func address(s string) (netip.Prefix, string) {
	prefix, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var addr netip.Addr
		addr, err = netip.ParseAddr(s)
		if addr.Zone() != "" {
			return netip.Prefix{}, fmt.Sprintf("%q has a zone, which means nothing on another host. Name the interface by interface.", s)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if err != nil {
		return netip.Prefix{}, fmt.Sprintf("%q is not an IP address. Write one such as 10.77.0.100 or fd77::100, or 10.77.0.100/24 with its prefix length.", s)
	}
	if complaint := unusable(prefix); complaint != "" {
		return netip.Prefix{}, fmt.Sprintf("%q %s", s, complaint)
	}
	return prefix, ""
}

// unusable explains why p cannot be a floating address. It returns "" if p can.
func unusable(p netip.Prefix) string {
	addr := p.Addr()
	switch {
	case addr.Is4In6():
		return fmt.Sprintf("is an IPv4 address in IPv6 notation. Did you mean %q?", addr.Unmap())
	case addr.Is6():
		return unusable6(p)
	case addr.As4()[0] == 0: // RFC 1122, section 3.2.1.3
		return "is an address of \"this network\", not of a host."
	case addr.IsLoopback():
		return "is a loopback address, which no other host can reach."
	case addr.IsMulticast():
		return "is a multicast address, not a host address."
	case addr.As4() == [4]byte{255, 255, 255, 255}:
		return "is the broadcast address."
	case addr.IsLinkLocalUnicast(): // RFC 3927, section 1.6
		return "is a link-local address, which any host may choose for itself. Use one of the subnet that the hosts share."
	case p.Bits() < 8:
		return fmt.Sprintf("has the prefix length %d, which is no subnet. Leave it out for /32.", p.Bits())
	}
	return reserved(p)
}

// unusable6 is unusable for IPv6.
func unusable6(p netip.Prefix) string {
	addr := p.Addr()
	switch {
	case addr.IsUnspecified():
		return "is the unspecified address, not one of a host."
	case addr.IsLoopback():
		return "is a loopback address, which no other host can reach."
	case addr.IsMulticast():
		return "is a multicast address, not a host address."
	case addr.IsLinkLocalUnicast(): // RFC 4291, section 2.5.6
		return "is a link-local address, which any host may choose for itself. Use one of the subnet that the hosts share."
	case p.Bits() < 16:
		return fmt.Sprintf("has the prefix length %d, which is no subnet. Leave it out for /128.", p.Bits())
	case p.Bits() < 127 && addr == p.Masked().Addr(): // RFC 4291, section 2.6.1; RFC 6164
		return fmt.Sprintf("is the anycast address of the routers of %s, not a host address.", p.Masked())
	}
	return ""
}

// reserved explains which reserved address of its subnet p is. It returns "" for a host
// address. A /31 has only host addresses (RFC 3021).
func reserved(p netip.Prefix) string {
	if p.Bits() > 30 {
		return ""
	}
	network := p.Masked()
	broadcast := network.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		broadcast[bit/8] |= 0x80 >> (bit % 8)
	}
	switch p.Addr() {
	case network.Addr():
		return fmt.Sprintf("is the network address of %s, not a host address.", network)
	case netip.AddrFrom4(broadcast):
		return fmt.Sprintf("is the broadcast address of %s.", network)
	}
	return ""
}
