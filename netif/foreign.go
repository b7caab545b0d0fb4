package netif

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// ErrForeign means that another program has bound the address on this host. The
// error itself is a [*ForeignError].
var ErrForeign = errors.New("the address is bound by another program")

// ForeignError describes an address that this host has without our tag. It wraps
// ErrForeign.
type ForeignError struct {
	Addr      netip.Addr
	Interface string // name of the interface that has the address
}

// Error names the address and the interface.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is already bound to %s by another program", e.Addr, e.Interface)
}

// Unwrap returns ErrForeign.
func (e *ForeignError) Unwrap() error { return ErrForeign }

// Taken checks whether another program of this host has bound the address. It
// returns a *ForeignError if so, nil if not, and another error if the kernel gives
// no list. An address of ours always has a lifetime, so a permanent one is foreign.
func (a *Address) Taken() error {
	found, err := a.host.addresses(family(a.prefix.Addr()))
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.prefix.Addr() == a.prefix.Addr() && f.permanent {
			return a.host.foreign(f)
		}
	}
	return nil
}

// Foreign checks whether this host has addr without our tag, on any interface. It
// returns a *ForeignError if so, nil if not, and another error if the kernel gives no
// list. Call it only for an address that this process has not bound: a kernel before
// Linux 5.18 does not keep the tag.
func (h *Host) Foreign(addr netip.Addr) error {
	found, err := h.addresses(family(addr))
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.prefix.Addr() == addr && f.tag != h.tag {
			return h.foreign(f)
		}
	}
	return nil
}

// foreign returns the error about an address that is not ours, with the name of
// its interface.
func (h *Host) foreign(a address) error {
	return &ForeignError{Addr: a.prefix.Addr(), Interface: h.nameOf(a.index)}
}

// nameOf returns the name of an interface, or its number if it has just gone.
func (h *Host) nameOf(index int) string {
	links, err := h.links()
	if err != nil {
		h.log.Debug("could not look up the name of an interface", "error", err)
	}
	for _, l := range links {
		if l.index == index {
			return l.name
		}
	}
	return "interface " + strconv.Itoa(index)
}
