package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// SetCable plugs the cable of the host's eth0 in or pulls it out: the interface
// stays as it is but for its carrier.
func (h *Host) SetCable(plugged bool) error {
	link, err := h.nl.LinkByName("eth0")
	if err != nil {
		return err
	}
	// The other end of a veth pair is its "parent".
	port, err := h.lab.wireNl.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return fmt.Errorf("port of %s: %w", h.Name, err)
	}
	if plugged {
		return h.lab.wireNl.LinkSetUp(port)
	}
	return h.lab.wireNl.LinkSetDown(port)
}

// Bound returns the IPv4 addresses of eth0. It asks the kernel itself, many
// times as fast as Addresses does.
func (h *Host) Bound() ([]netip.Addr, error) {
	link, err := h.nl.LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	found, err := h.nl.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", h.Name, err)
	}
	var addrs []netip.Addr
	for _, a := range found {
		addrs = append(addrs, addrOf(a.IP))
	}
	return addrs, nil
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
