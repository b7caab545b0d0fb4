package netif

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// address is one address of the host, as the kernel lists it.
type address struct {
	index     int          // of the interface
	prefix    netip.Prefix // the host's own address, not masked
	subnet    netip.Prefix // the subnet reached through it, masked; the peer's if there is a peer
	tag       Tag          // 0: none
	permanent bool         // it has no lifetime, so this package did not bind it
	secondary bool         // IPv4: another address of its subnet is the primary one; IPv6: temporary (RFC 8981)
	tentative bool         // IPv6: duplicate address detection has not ended, or has failed
}

// floating reports whether a Host has bound the address.
func (a address) floating() bool { return a.tag == AgentTag || a.tag == AnnounceTag }

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
		// With AF_UNSPEC the kernel also lists families other than IPv4 and IPv6.
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
		secondary: m[2]&unix.IFA_F_SECONDARY != 0, // the same bit as IFA_F_TEMPORARY
		tentative: m[2]&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && m[2]&unix.IFA_F_OPTIMISTIC == 0,
	}
	var local, peer netip.Addr
	err := eachAttr(m[unix.SizeofIfAddrmsg:], func(typ uint16, value []byte) {
		switch typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			peer, _ = netip.AddrFromSlice(value)
		case ifaProto:
			if len(value) == 1 {
				a.tag = Tag(value[0])
			}
		}
	})
	if err != nil {
		return address{}, err
	}
	// IPv4 messages have both attributes. IPv6 messages have IFA_LOCAL only if the
	// address has a peer.
	if !local.IsValid() {
		local = peer
	}
	if !peer.IsValid() {
		peer = local
	}
	a.prefix = netip.PrefixFrom(local, bits)
	a.subnet = netip.PrefixFrom(peer, bits).Masked()
	if !a.prefix.IsValid() || !a.subnet.IsValid() {
		return address{}, fmt.Errorf("an address message has no valid address with a prefix length of %d", bits)
	}
	return a, nil
}
