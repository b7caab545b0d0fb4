package netif

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Clear removes the leftovers of a previous process: it removes these addresses,
// on any interface, if they carry our tag. It returns the addresses it removed. If
// the host has one of the addresses without our tag, the error is a *ForeignError
// and nothing is removed.
func (h *Host) Clear(addrs []netip.Addr) ([]netip.Prefix, error) {
	found, err := h.addresses(unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	var leftovers []address
	for _, f := range found {
		if !slices.Contains(addrs, f.prefix.Addr()) {
			continue
		}
		if f.tag != h.tag {
			return nil, h.foreign(f)
		}
		leftovers = append(leftovers, f)
	}
	var cleared []netip.Prefix
	for _, l := range leftovers {
		if err := h.remove(l.index, l.prefix); err != nil {
			return cleared, err
		}
		cleared = append(cleared, l.prefix)
	}
	return cleared, nil
}

// prepareBind removes the leftovers of p's address and returns the flags to add it
// with. A leftover with the same interface and prefix stays, to be replaced; without
// one the flags make the kernel refuse an address that is already there.
func (h *Host) prepareBind(ifindex int, p netip.Prefix) (flags int, err error) {
	found, err := h.addresses(family(p.Addr()))
	if err != nil {
		return 0, err
	}
	found = slices.DeleteFunc(found, func(f address) bool { return f.prefix.Addr() != p.Addr() })
	for _, f := range found {
		if f.tag != h.tag {
			return 0, h.foreign(f)
		}
	}
	flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	for _, f := range found {
		if f.index == ifindex && f.prefix == p {
			flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
			continue
		}
		if err := h.remove(f.index, f.prefix); err != nil {
			return 0, err
		}
		h.log.Info("removed a leftover address", "address", f.prefix, "ifindex", f.index)
	}
	return flags, nil
}
