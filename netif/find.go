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
	// ErrNoInterface means that no interface matches, or that the interface does not
	// exist any more.
	ErrNoInterface = errors.New("no such interface")

	// ErrAmbiguous means that more than one interface matches.
	ErrAmbiguous = errors.New("more than one interface fits")
)

// Find returns the interface called name. If name is empty it returns the interface
// whose subnet contains addr, up or down; the longest subnet wins. It ignores
// loopback, addresses without a subnet (/32, /128) and addresses that this package
// bound.
//
// The error wraps ErrNoInterface and lists the existing interfaces or subnets, or
// wraps ErrAmbiguous and lists the interfaces with equally long subnets.
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
	return nil, fmt.Errorf("%w: %q; existing interfaces: %s", ErrNoInterface, name, strings.Join(names, ", "))
}

func bySubnet(links []link, addresses []address, addr netip.Addr) (*net.Interface, error) {
	fits, known := longestSubnet(links, addresses, addr)
	switch len(fits) {
	case 1:
		return fits[0].netInterface(), nil
	case 0:
		return nil, fmt.Errorf("%w: no subnet contains %s; existing subnets: %s", ErrNoInterface, addr, listOrNone(known))
	}
	var names []string
	for _, l := range fits {
		names = append(names, l.name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%w: %s is in a subnet of %s", ErrAmbiguous, addr, strings.Join(names, " and of "))
}

// longestSubnet returns the links with the longest subnet that contains addr, and
// all subnets it looked at, described for an error.
func longestSubnet(links []link, addresses []address, addr netip.Addr) (fits []link, known []string) {
	bits := -1 // prefix length of the longest subnet so far
	for _, l := range links {
		if l.flags&unix.IFF_LOOPBACK != 0 {
			continue
		}
		for _, a := range addresses {
			if a.index != l.index || a.floating() || a.subnet.IsSingleIP() {
				continue
			}
			known = append(known, fmt.Sprintf("%s on %s", a.subnet, l.name))
			switch {
			case !a.subnet.Contains(addr) || a.subnet.Bits() < bits:
			case a.subnet.Bits() > bits:
				fits, bits = []link{l}, a.subnet.Bits()
			case fits[len(fits)-1].index != l.index: // a link counts once, even with two addresses in the subnet
				fits = append(fits, l)
			}
		}
	}
	return fits, known
}

func listOrNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}
