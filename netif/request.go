package netif

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// tag is the address protocol of the addresses this package binds: 'v'. The
	// kernel's own are 1 to 3 (linux/if_addr.h, IFAPROT_*), keepalived uses 18.
	tag = 118

	// ifaProto is IFA_PROTO of linux/if_addr.h, which golang.org/x/sys/unix lacks.
	ifaProto = 11

	// attrTypeMask is NLA_TYPE_MASK of linux/netlink.h: the bits of an
	// attribute's type without its flags.
	attrTypeMask = 0x3fff
)

// address is one address of the host.
type address struct {
	index     int
	prefix    netip.Prefix // the host's own address, not masked
	subnet    netip.Prefix // what the kernel reaches through it, masked; the peer's where there is one
	ours      bool         // it carries the tag
	permanent bool         // it has no lifetime, so nobody bound it with this package
}

// newAddr is the request that adds p to an interface for a number of seconds;
// flags are NLM_F_CREATE and the like.
func newAddr(index int, p netip.Prefix, seconds uint32, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, flags|unix.NLM_F_ACK)
	msg := ifAddrmsg(index, p)

	// IPv4 does not look at the preferred lifetime when it chooses a source
	// address: a shorter one would change nothing but what "ip address" shows.
	preferred := seconds
	if p.Addr().Is6() {
		// A floating address has to answer at once, and whoever holds the lock
		// holds the address: duplicate address detection (RFC 4862, section 5.4)
		// would keep it unusable for a second or more. Preferred 0 keeps it out
		// of source address selection (RFC 6724, section 5, rule 3), so that the
		// host's own connections survive when it moves.
		msg.Flags = unix.IFA_F_NODAD
		preferred = 0
	}

	lifetimes := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: seconds, Prefered: preferred}}
	req.AddData(msg)
	addLocal(req, p.Addr())
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, lifetimes.Serialize()))
	req.AddData(nl.NewRtAttr(ifaProto, nl.Uint8Attr(tag)))
	return req
}

// delAddr is the request that removes p from an interface. The kernel compares
// address and prefix length, never the tag.
func delAddr(index int, p netip.Prefix) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_DELADDR, unix.NLM_F_ACK)
	req.AddData(ifAddrmsg(index, p))
	addLocal(req, p.Addr())
	return req
}

func ifAddrmsg(index int, p netip.Prefix) *nl.IfAddrmsg {
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Prefixlen = uint8(p.Bits())
	msg.Index = uint32(index)
	return msg
}

func addLocal(req *nl.NetlinkRequest, a netip.Addr) {
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addresses lists the host's addresses of one family, or of both with AF_UNSPEC.
func (h *Host) addresses(family int) ([]address, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(family))
	msgs, err := h.dump(req, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	found := make([]address, 0, len(msgs))
	for _, m := range msgs {
		// With AF_UNSPEC the kernel also lists families that are not IP's.
		if len(m) > 0 && m[0] != unix.AF_INET && m[0] != unix.AF_INET6 {
			continue
		}
		a, err := parseAddress(m)
		if err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return found, nil
}

// parseAddress reads the payload of an RTM_NEWADDR or RTM_DELADDR message.
func parseAddress(m []byte) (address, error) {
	if len(m) < unix.SizeofIfAddrmsg {
		return address{}, fmt.Errorf("an address message of %d bytes is too short", len(m))
	}
	bits := int(m[1])
	a := address{
		index:     int(binary.NativeEndian.Uint32(m[4:])),
		permanent: m[2]&unix.IFA_F_PERMANENT != 0,
	}
	var local, peer netip.Addr
	err := eachAttr(m[unix.SizeofIfAddrmsg:], func(typ uint16, value []byte) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			peer, _ = netip.AddrFromSlice(value)
		case ifaProto:
			a.ours = len(value) == 1 && value[0] == tag
		}
	})
	if err != nil {
		return address{}, err
	}
	// IPv4 names both; IPv6 names IFA_LOCAL only where there is a peer.
	if !local.IsValid() {
		local = peer
	}
	if !peer.IsValid() {
		peer = local
	}
	a.prefix = netip.PrefixFrom(local, bits)
	a.subnet = netip.PrefixFrom(peer, bits).Masked()
	if !a.prefix.IsValid() || !a.subnet.IsValid() {
		return address{}, fmt.Errorf("an address message has no valid address of %d bits", bits)
	}
	return a, nil
}

// eachAttr calls f for each attribute in b, without the flags of its type.
func eachAttr(b []byte, f func(typ uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return fmt.Errorf("a netlink attribute of %d bytes does not fit in %d", size, len(b))
		}
		f(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[unix.SizeofRtAttr:size])
		b = b[min(align(size), len(b)):]
	}
	return nil
}

// align rounds a length up to netlink's alignment.
func align(n int) int {
	return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
}
