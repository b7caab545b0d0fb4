package netif

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoInterface says that no interface is the one that was asked for, or
	// that it does not exist any more.
	ErrNoInterface = errors.New("no such interface")

	// ErrAmbiguous says that more than one interface could be meant.
	ErrAmbiguous = errors.New("more than one interface fits")
)

// Find returns the interface called name, or, where name is empty, the one
// whose subnet contains addr, up or down. The longest subnet wins.
// Addresses without a subnet (/32, /128), loopback, and addresses that this
// package bound choose no interface. The error is ErrNoInterface, and names
// what there is, or ErrAmbiguous, and names the interfaces between which
// nothing decides; errors.Is tells.
func (h *Host) Find(addr netip.Addr, name string) (*net.Interface, error) {
	links, err := h.links()
	if err != nil {
		return nil, err
	}
	if name != "" {
		return byName(links, name)
	}
	addresses, err := h.addresses(family(addr))
	if err != nil {
		return nil, err
	}
	return bySubnet(links, addresses, addr)
}

func byName(links []link, name string) (*net.Interface, error) {
	var names []string
	for _, l := range links {
		if l.name == name {
			return l.netInterface(), nil
		}
		names = append(names, l.name)
	}
	return nil, fmt.Errorf("%w: %q; there is %s", ErrNoInterface, name, strings.Join(names, ", "))
}

func bySubnet(links []link, addresses []address, addr netip.Addr) (*net.Interface, error) {
	var (
		fits  []link   // those with the longest subnet that contains addr
		bits  = -1     // of that subnet
		known []string // every subnet, for the error
	)
	for _, l := range links {
		if l.flags&unix.IFF_LOOPBACK != 0 {
			continue
		}
		for _, a := range addresses {
			if a.index != l.index || a.ours || a.subnet.IsSingleIP() {
				continue
			}
			known = append(known, fmt.Sprintf("%s on %s", a.subnet, l.name))
			switch {
			case !a.subnet.Contains(addr) || a.subnet.Bits() < bits:
			case a.subnet.Bits() > bits:
				fits, bits = []link{l}, a.subnet.Bits()
			case fits[len(fits)-1].index != l.index: // not the same subnet twice on one interface
				fits = append(fits, l)
			}
		}
	}
	switch len(fits) {
	case 1:
		return fits[0].netInterface(), nil
	case 0:
		return nil, fmt.Errorf("%w: no subnet contains %s; there is %s", ErrNoInterface, addr, orNone(known))
	}
	var names []string
	for _, l := range fits {
		names = append(names, l.name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%w: %s is in a subnet of %s", ErrAmbiguous, addr, strings.Join(names, " and of "))
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

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
