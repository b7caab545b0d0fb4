package netif

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Tag is the address protocol of the addresses that a Host binds. The kernel uses 1 to 3
// (linux/if_addr.h, IFAPROT_*), keepalived 18.
type Tag uint8

// The tags tell whose address it is: each program takes only its own for leftovers.
const (
	AgentTag    Tag = 118 // 'v'
	AnnounceTag Tag = 119
)

const (
	// ifaProto is IFA_PROTO of linux/if_addr.h, which golang.org/x/sys/unix lacks.
	ifaProto = 11
)

// newAddr returns the request that adds p to an interface for a number of seconds.
// The flags are NLM_F_CREATE and the like.
func newAddr(index int, p netip.Prefix, t Tag, seconds uint32, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, flags|unix.NLM_F_ACK)
	msg := ifAddrmsg(index, p)

	// IPv4 ignores the preferred lifetime when it selects a source address: a
	// shorter one would only change the output of "ip address".
	preferred := seconds
	if p.Addr().Is6() {
		// A floating address must answer at once. Duplicate address detection (RFC
		// 4862, section 5.4) would keep it unusable for a second or more, and the
		// lock already makes sure that no other host has it. Preferred lifetime 0
		// keeps it out of source address selection (RFC 6724, section 5, rule 3), so
		// the host's own connections survive when it moves.
		msg.Flags = unix.IFA_F_NODAD
		preferred = 0
	}

	lifetimes := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: seconds, Prefered: preferred}}
	req.AddData(msg)
	addLocal(req, p.Addr())
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, lifetimes.Serialize()))
	req.AddData(nl.NewRtAttr(ifaProto, nl.Uint8Attr(uint8(t))))
	return req
}

// delAddr returns the request that removes p from an interface. The kernel compares
// the address and the prefix length, never the tag.
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
