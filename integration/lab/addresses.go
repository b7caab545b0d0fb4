package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Address is an address of an interface as "ip -json address" shows it.
type Address struct {
	Interface string
	Prefix    netip.Prefix
}

// Addresses returns all addresses of the host as "ip address" shows them,
// except those of the loopback interface and link-local ones.
func (h *Host) Addresses(ctx context.Context) ([]Address, error) {
	out, err := h.Run(ctx, Command{Args: []string{"ip", "-json", "address", "show"}})
	if err != nil {
		return nil, err
	}
	var links []struct {
		Ifname string `json:"ifname"`
		Info   []struct {
			Local     netip.Addr `json:"local"`
			Prefixlen int        `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal(out, &links); err != nil {
		return nil, fmt.Errorf("output of ip on %s: %w", h.Name, err)
	}
	var addrs []Address
	for _, link := range links {
		if link.Ifname == "lo" {
			continue
		}
		for _, i := range link.Info {
			if i.Local.IsLinkLocalUnicast() {
				continue
			}
			addrs = append(addrs, Address{link.Ifname, netip.PrefixFrom(i.Local, i.Prefixlen)})
		}
	}
	return addrs, nil
}

// Owns reports whether "ip address" shows an address on any interface of the host.
func (h *Host) Owns(ctx context.Context, addr netip.Addr) (bool, error) {
	addrs, err := h.Addresses(ctx)
	for _, a := range addrs {
		if a.Prefix.Addr() == addr {
			return true, nil
		}
	}
	return false, err
}

// LinkLocal returns the IPv6 link-local address that the kernel has given eth0 (RFC 4291,
// appendix A).
func (h *Host) LinkLocal() netip.Addr {
	m := h.MAC
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// Bound returns the addresses of eth0 but link-local ones. It asks the kernel directly,
// which is much faster than Addresses.
func (h *Host) Bound() ([]netip.Addr, error) {
	link, err := h.nl.LinkByName(serviceInterface)
	if err != nil {
		return nil, err
	}
	found, err := h.nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", h.Name, err)
	}
	var addrs []netip.Addr
	for _, a := range found {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.IsLinkLocalUnicast() {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}
