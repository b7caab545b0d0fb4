package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// address accepts an IPv4 unicast address with or without a prefix length.
func address(s string) (netip.Prefix, string) {
	prefix, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var addr netip.Addr
		addr, err = netip.ParseAddr(s)
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if err != nil {
		return netip.Prefix{}, fmt.Sprintf("%q is not an IP address. Write one such as 10.77.0.100, or 10.77.0.100/24 with its prefix length.", s)
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
		return "is an IPv6 address, which this version does not support yet. Use an IPv4 address."
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
