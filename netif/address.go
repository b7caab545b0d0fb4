package netif

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrForeign says that the host has the address, and that it is not ours.
	// The error is a *ForeignError.
	ErrForeign = errors.New("the host has the address, bound by another program")

	// ErrLifetime says that a lifetime is shorter than the kernel's second, or
	// longer than the kernel can count.
	ErrLifetime = errors.New("lifetime out of range")

	// ErrUnbound says that an Address has been unbound.
	ErrUnbound = errors.New("the address has been unbound")
)

// ForeignError is an address that the host has without our tag. errors.Is finds
// ErrForeign in it.
type ForeignError struct {
	Addr      netip.Addr
	Interface string // name of the interface that has it
}

// Error names the address and the interface.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is on %s already, bound by another program", e.Addr, e.Interface)
}

// Unwrap returns ErrForeign.
func (e *ForeignError) Unwrap() error { return ErrForeign }

// Address is an address that Bind has bound. Its methods may be called by
// several goroutines.
type Address struct {
	host   *Host
	index  int
	prefix netip.Prefix

	mu      sync.Mutex
	unbound bool
}

// Clear removes what a predecessor left of these addresses: those that carry
// our tag, on any interface. It returns what it removed. If the host has one of
// them without our tag the error is a *ForeignError and nothing is removed.
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
		if !f.ours {
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

// Bind adds p to an interface for the lifetime, in whole seconds rounded down.
// The kernel removes it within half a second after that, unless Refresh extends
// it. The error is a *ForeignError if the host has the address already, on any
// interface, without our tag; ErrNoInterface if there is no interface ifindex;
// ErrLifetime. One with our tag is a leftover: taken over on the same
// interface, removed from another.
//
// The default length, /32 or /128, is an address and nothing else: it comes and
// goes without touching any other. A shorter prefix also is the host's
// connected route, if the interface has no address of its own in that subnet.
// But of the IPv4 addresses that one interface has in one subnet the kernel
// counts all but the first as secondary, and removes them with the first,
// whoever bound them, unless the sysctl net.ipv4.conf.*.promote_secondaries is
// set (systemd sets it). This package changes no sysctl: Watch reports those
// removals like any other, and Refresh puts back what is ours. A host should
// have its own address before a floating one of the same subnet.
func (h *Host) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (*Address, error) {
	if !p.IsValid() {
		return nil, fmt.Errorf("bind: %v is no address", p)
	}
	flags, err := h.makeWay(ifindex, p)
	if err != nil {
		return nil, err
	}
	err = h.add(ifindex, p, lifetime, flags)
	if errors.Is(err, unix.EEXIST) { // added since makeWay looked
		return nil, h.foreign(address{index: ifindex, prefix: p})
	}
	if err != nil {
		return nil, err
	}
	return &Address{host: h, index: ifindex, prefix: p}, nil
}

// makeWay removes leftovers of p's address, and returns the flags to add it
// with: exclusively, unless the leftover is exactly what is to be bound.
func (h *Host) makeWay(ifindex int, p netip.Prefix) (flags int, err error) {
	found, err := h.addresses(family(p.Addr()))
	if err != nil {
		return 0, err
	}
	found = slices.DeleteFunc(found, func(f address) bool { return f.prefix.Addr() != p.Addr() })
	for _, f := range found {
		if !f.ours {
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

// Refresh extends the address to lifetime from now, in whole seconds rounded
// down. restored says that it was missing, removed by someone else or expired,
// and has been put back. The error is ErrLifetime, and nothing has changed;
// ErrUnbound after Unbind; ErrNoInterface if the interface is gone.
//
// It does not look at what it extends. If another program of this host has
// meanwhile bound the very same address without a lifetime, Refresh makes it
// ours again, and Watch has reported AddressForeign: the caller must heed that.
func (a *Address) Refresh(lifetime time.Duration) (restored bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unbound {
		return false, fmt.Errorf("refresh %s: %w", a.prefix, ErrUnbound)
	}
	// The kernel does not say whether a replacement found anything to replace.
	// An exclusive request does, and leaves alone what it finds.
	err = a.host.add(a.index, a.prefix, lifetime, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	return false, a.host.add(a.index, a.prefix, lifetime, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// Taken looks whether another program of this host has the address now: a
// *ForeignError, else nil or why it cannot be told. Ours always has a lifetime.
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

// Unbind removes the address from the kernel; nil if it is gone already. From
// its start on no Refresh brings it back. After an error it may be called
// again. It is one request: what another program has bound in the very place of
// ours is removed as well, as the address may be another host's a moment later.
func (a *Address) Unbind() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unbound = true
	return a.host.remove(a.index, a.prefix)
}

func (h *Host) add(index int, p netip.Prefix, lifetime time.Duration, flags int) error {
	seconds := int64(lifetime / time.Second)
	// The largest number means "for ever" to the kernel.
	if seconds < 1 || seconds >= math.MaxUint32 {
		return fmt.Errorf("bind %s for %v: %w", p, lifetime, ErrLifetime)
	}
	_, err := h.execute(newAddr(index, p, uint32(seconds), flags), 0)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("bind %s: %w: index %d", p, ErrNoInterface, index)
	case err != nil:
		return fmt.Errorf("bind %s: %w", p, err)
	}
	return nil
}

func (h *Host) remove(index int, p netip.Prefix) error {
	_, err := h.execute(delAddr(index, p), 0)
	// The address, the interface, or its IPv6 are gone, and the address with them.
	for _, gone := range []error{unix.EADDRNOTAVAIL, unix.ENODEV, unix.ENXIO} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("unbind %s: %w", p, err)
	}
	return nil
}

// foreign is the refusal of an address that is not ours, with the name of the
// interface that has it.
func (h *Host) foreign(a address) error {
	name := "interface " + strconv.Itoa(a.index)
	links, err := h.links()
	if err != nil {
		h.log.Debug("cannot name the interface of a foreign address", "error", err)
	}
	for _, l := range links {
		if l.index == a.index {
			name = l.name
		}
	}
	return &ForeignError{Addr: a.prefix.Addr(), Interface: name}
}
