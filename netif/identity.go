package netif

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Identity is what other hosts can see of this host on one link. Equal facts make equal
// values, in the same order.
type Identity struct {
	// MACs are the hardware addresses from which this host may send or answer there:
	// the link's own first, then those of its lower links and of the members of a bond,
	// with their burnt-in ones, and those of all other links that have an address of
	// their own. Linux answers an ARP request on every link that receives it, not only
	// on the one that has the address (ip-sysctl, arp_ignore).
	MACs []net.HardwareAddr
	// Addrs are the addresses of the link that this package did not bind, not masked:
	// first the primary ones of a subnet, then the secondary ones, then those without a
	// subnet (/32, /128, or with a peer). Link-local ones and temporary ones (RFC 8981) are
	// left out.
	Addrs []netip.Prefix
	// LinkLocal is the IPv6 link-local address of the link. It is the zero Addr if there is
	// none, or its duplicate address detection has not ended.
	LinkLocal netip.Addr
	// Gateway and Gateway6 are the next hops of the IPv4 and the IPv6 default route through
	// this link. The main table comes before all others, and then the lowest metric wins. It
	// is the zero Addr if there is none.
	Gateway, Gateway6 netip.Addr
}

// Identity reads the identity of the link ifindex. The kernel gives no consistent
// picture of all tables; an IdentityChanged follows each change. The error wraps
// ErrNoInterface if there is no such link.
//
// A kernel before Linux 5.18 does not keep the tag. There Identity knows only the
// addresses that this Host has bound, not a previous process's leftovers.
func (h *Host) Identity(ifindex int) (Identity, error) {
	links, err := h.links()
	if err != nil {
		return Identity{}, err
	}
	i := slices.IndexFunc(links, func(l link) bool { return l.index == ifindex })
	if i < 0 {
		return Identity{}, fmt.Errorf("%w: index %d", ErrNoInterface, ifindex)
	}
	addresses, err := h.addresses(unix.AF_UNSPEC)
	if err != nil {
		return Identity{}, err
	}
	local := linkLocal(addresses, ifindex)
	own := slices.DeleteFunc(addresses, func(a address) bool { return !h.own(a) })
	routes, err := h.defaultRoutes(ifindex, unix.AF_INET)
	if err != nil {
		return Identity{}, err
	}
	routes6, err := h.defaultRoutes(ifindex, unix.AF_INET6)
	if err != nil {
		return Identity{}, err
	}
	return Identity{
		MACs:      hardwareAddrs(links, own, links[i]),
		Addrs:     ownAddrs(own, ifindex),
		LinkLocal: local,
		Gateway:   gateway(routes, ifindex),
		Gateway6:  gateway(routes6, ifindex),
	}, nil
}

// Source returns the own address from which to ask addr: the IPv4 one with the longest
// subnet that contains addr, else the first, or the IPv6 link-local one. It is the zero
// Addr if there is none.
func (i Identity) Source(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return i.LinkLocal
	}
	var best, first netip.Prefix
	for _, p := range i.Addrs {
		switch {
		case !p.Addr().Is4():
			continue
		case !first.IsValid():
			first = p
		}
		if p.Contains(addr) && (!best.IsValid() || p.Bits() > best.Bits()) {
			best = p
		}
	}
	if !best.IsValid() {
		best = first
	}
	return best.Addr()
}

// Equal reports whether two identities are the same.
func (i Identity) Equal(o Identity) bool {
	sameMAC := func(a, b net.HardwareAddr) bool { return bytes.Equal(a, b) }
	return i.LinkLocal == o.LinkLocal && i.Gateway == o.Gateway && i.Gateway6 == o.Gateway6 && slices.Equal(i.Addrs, o.Addrs) && slices.EqualFunc(i.MACs, o.MACs, sameMAC)
}

// own reports whether an address is the host's own: not a floating one that this package
// bound, and not one that any host may choose for itself (RFC 3927, RFC 4291).
func (h *Host) own(a address) bool {
	return !a.floating() && !a.prefix.Addr().IsLinkLocalUnicast() && !h.ours.has(a.index, a.prefix)
}

// hardwareAddrs returns the MACs of the link l, its own first.
func hardwareAddrs(links []link, own []address, l link) []net.HardwareAddr {
	same := stack(links, l)
	var rest []net.HardwareAddr
	for _, o := range links {
		addressed := slices.ContainsFunc(own, func(a address) bool { return a.index == o.index })
		if same[o.index] || addressed {
			rest = append(rest, o.mac, o.permanent)
		}
	}
	rest = slices.DeleteFunc(rest, func(m net.HardwareAddr) bool { return !isStation(m) || bytes.Equal(m, l.mac) })
	slices.SortFunc(rest, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
	rest = slices.CompactFunc(rest, func(a, b net.HardwareAddr) bool { return bytes.Equal(a, b) })
	if !isStation(l.mac) {
		return rest
	}
	return slices.Insert(rest, 0, l.mac)
}

// isStation reports whether m names one Ethernet station: six bytes, and neither zero
// nor a group address, nor a virtual router's address, which moves from host to host
// (RFC 9568, section 7.3).
func isStation(m net.HardwareAddr) bool {
	const group = 1
	return len(m) == 6 && !slices.Equal(m, make(net.HardwareAddr, 6)) && m[0]&group == 0 &&
		!bytes.HasPrefix(m, []byte{0, 0, 0x5e, 0, 1}) && !bytes.HasPrefix(m, []byte{0, 0, 0x5e, 0, 2})
}

// stack returns the indexes of the links that share l's frames: l itself, the links
// below it, and the members of all bonds among these. The ports of a bridge are none:
// other stations are behind them.
func stack(links []link, l link) map[int]bool {
	byIndex := make(map[int]link, len(links))
	for _, o := range links {
		byIndex[o.index] = o
	}
	in := make(map[int]bool)
	for !in[l.index] {
		in[l.index] = true
		l = byIndex[l.lower] // a zero link if there is none, which ends this
	}
	delete(in, 0)
	for _, o := range links {
		if o.bonded && in[o.master] {
			in[o.index] = true
		}
	}
	return in
}

// linkLocal returns the IPv6 link-local address of a link that can be used.
func linkLocal(addresses []address, ifindex int) (lowest netip.Addr) {
	for _, a := range addresses {
		addr := a.prefix.Addr()
		if a.index == ifindex && !a.floating() && !a.tentative && addr.Is6() && addr.IsLinkLocalUnicast() && (!lowest.IsValid() || addr.Less(lowest)) {
			lowest = addr
		}
	}
	return lowest
}

// ownAddrs returns the own addresses of a link.
func ownAddrs(own []address, ifindex int) []netip.Prefix {
	own = slices.Clone(own)
	own = slices.DeleteFunc(own, func(a address) bool {
		return a.index != ifindex || a.tentative || a.prefix.Addr().Is6() && a.secondary
	})
	slices.SortFunc(own, func(a, b address) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), a.prefix.Compare(b.prefix))
	})
	var prefixes []netip.Prefix
	for _, a := range own {
		if a.rank() == withoutSubnet {
			a.prefix = netip.PrefixFrom(a.prefix.Addr(), a.prefix.Addr().BitLen())
		}
		prefixes = append(prefixes, a.prefix)
	}
	return prefixes
}

// The ranks of an address, best first.
const (
	primary = iota
	secondary
	withoutSubnet // the subnet is the peer's, or there is none; often another program's floating address
)

func (a address) rank() int {
	switch {
	case a.subnet.IsSingleIP() || a.subnet != a.prefix.Masked():
		return withoutSubnet
	case a.secondary:
		return secondary
	}
	return primary
}
