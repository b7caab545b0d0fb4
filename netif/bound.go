package netif

import (
	"net/netip"
)

// A Binding is an address as this host has it.
type Binding struct {
	Index     int    // of the interface
	Interface string // its name
	Prefix    netip.Prefix
	Tag       Tag // 0 or another one: a program has bound it that is not ours
}

// Bound returns where this host has addr: nowhere, on one interface or on several.
func (h *Host) Bound(addr netip.Addr) (found []Binding, err error) {
	addresses, err := h.addresses(family(addr))
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		if a.prefix.Addr() == addr {
			found = append(found, Binding{a.index, h.nameOf(a.index), a.prefix, a.tag})
		}
	}
	return found, nil
}

// Remove removes addr from an interface, whichever program has bound it. It returns nil if
// the interface does not have it.
func (h *Host) Remove(ifindex int, addr netip.Addr) error {
	addresses, err := h.addresses(family(addr))
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a.index == ifindex && a.prefix.Addr() == addr {
			if err := h.remove(ifindex, a.prefix); err != nil {
				return err
			}
		}
	}
	return nil
}
