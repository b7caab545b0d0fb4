package netif

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// skipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h. It leaves out the
// counters, which are most of a link's message.
const skipStats = 1 << 3

// link is one network interface, as the kernel lists it.
type link struct {
	index     int
	name      string
	flags     uint32 // IFF_*
	mtu       int
	mac       net.HardwareAddr // current hardware address
	permanent net.HardwareAddr // burnt-in hardware address; a bond gives its members another mac
	lower     int              // index of the link below a VLAN, a macvlan or the like; 0: none
	master    int              // index of the bond, bridge or VRF that the link belongs to; 0: none
	bonded    bool             // the master is a bond or a team
	partial   bool             // the message is not about the link's state
}

// up reports whether the link can carry frames. The kernel sets IFF_RUNNING if the
// operational state is up, or unknown because the driver does not report it (RFC
// 2863, section 3.1.14), and IFF_LOWER_UP if there is a carrier.
func (l link) up() bool {
	const all = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return l.flags&all == all
}

// clone returns a copy that shares no memory with l.
func (l link) clone() link {
	l.mac, l.permanent = bytes.Clone(l.mac), bytes.Clone(l.permanent)
	return l
}

// netInterface converts a link to the type of the standard library.
func (l link) netInterface() *net.Interface {
	i := &net.Interface{Index: l.index, MTU: l.mtu, Name: l.name, HardwareAddr: l.mac}
	for bit, flag := range map[uint32]net.Flags{
		unix.IFF_UP:          net.FlagUp,
		unix.IFF_BROADCAST:   net.FlagBroadcast,
		unix.IFF_LOOPBACK:    net.FlagLoopback,
		unix.IFF_POINTOPOINT: net.FlagPointToPoint,
		unix.IFF_MULTICAST:   net.FlagMulticast,
		unix.IFF_RUNNING:     net.FlagRunning,
	} {
		if l.flags&bit != 0 {
			i.Flags |= flag
		}
	}
	return i
}

// Own reports whether mac belongs to this host: whether a link has it now, or has it
// burnt in (of two cards in a bond, at least one shows the other's). The all-zero
// address of loopback belongs to no host. Own lists the links without their
// counters, about 5 µs per link.
func (h *Host) Own(mac net.HardwareAddr) (bool, error) {
	if !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }) {
		return false, nil
	}
	links, err := h.links()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(links, func(l link) bool {
		return bytes.Equal(l.mac, mac) || bytes.Equal(l.permanent, mac)
	}), nil
}

// links lists the host's links.
func (h *Host) links() ([]link, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	msgs, err := h.dump(req, unix.RTM_NEWLINK)
	if err != nil {
		return nil, fmt.Errorf("list the host's links: %w", err)
	}
	links := make([]link, len(msgs))
	for i, m := range msgs {
		if links[i], err = parseLink(m); err != nil {
			return nil, err
		}
	}
	return links, nil
}

// parseLink reads the payload of an RTM_NEWLINK or RTM_DELLINK message. The hardware
// addresses of the link share m's memory.
func parseLink(m []byte) (link, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return link{}, fmt.Errorf("a link message of %d bytes is too short", len(m))
	}
	l := link{
		index: int(binary.NativeEndian.Uint32(m[4:])),
		flags: binary.NativeEndian.Uint32(m[8:]),
		// A bridge reports its ports in the family AF_BRIDGE. It sends RTM_DELLINK
		// when a port leaves the bridge, although the link still exists.
		partial: m[0] != unix.AF_UNSPEC,
	}
	var below linkBelow
	err := eachAttr(m[unix.SizeofIfInfomsg:], func(typ uint16, value []byte) {
		l.parseAttr(typ, value)
		below.parseAttr(typ, value)
	})
	l.lower = below.inStack()
	return l, err
}

func (l *link) parseAttr(typ uint16, value []byte) {
	switch typ {
	case unix.IFLA_IFNAME:
		l.name = text(value)
	case unix.IFLA_MTU:
		l.mtu = int(number(value))
	case unix.IFLA_ADDRESS:
		l.mac = value
	case unix.IFLA_PERM_ADDRESS:
		l.permanent = value
	case unix.IFLA_MASTER:
		l.master = int(number(value))
	case unix.IFLA_LINKINFO:
		_, l.bonded = parseLinkInfo(value)
	case unix.IFLA_WIRELESS:
		// A wireless driver sends this to its own tools, without hardware addresses.
		l.partial = true
	}
}

// linkBelow is the link that the kernel names as the one below another (IFLA_LINK).
type linkBelow struct {
	index     int
	elsewhere bool   // it is in another namespace, and so is its index
	kind      string // of the link above
}

func (b *linkBelow) parseAttr(typ uint16, value []byte) {
	switch typ {
	case unix.IFLA_LINK:
		b.index = int(number(value))
	case unix.IFLA_LINK_NETNSID:
		b.elsewhere = true
	case unix.IFLA_LINKINFO:
		b.kind, _ = parseLinkInfo(value)
	}
}

// inStack returns the index if the two links share a wire, else 0. The other end of a
// veth has the same attribute, and belongs to another station.
func (b linkBelow) inStack() int {
	kinds := []string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"}
	if b.elsewhere || !slices.Contains(kinds, b.kind) {
		return 0
	}
	return b.index
}

// parseLinkInfo returns the kind of a link, such as "vlan", and whether the link is a
// member of a bond or a team. A part that it cannot read is empty: drivers fill in the
// rest.
func parseLinkInfo(b []byte) (kind string, bonded bool) {
	// A damaged attribute only hides the ones after it.
	_ = eachAttr(b, func(typ uint16, value []byte) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			kind = text(value)
		case unix.IFLA_INFO_SLAVE_KIND:
			bonded = text(value) == "bond" || text(value) == "team"
		}
	})
	return kind, bonded
}

// text returns the value of an attribute with a C string.
func text(value []byte) string { return string(bytes.TrimRight(value, "\x00")) }
