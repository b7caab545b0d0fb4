package netif

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrLifetime means that a lifetime is shorter than a second, the kernel's unit,
	// or longer than the kernel can count.
	ErrLifetime = errors.New("lifetime out of range")

	// ErrIPv6Disabled means that the interface takes no IPv6 address (ip-sysctl,
	// disable_ipv6).
	ErrIPv6Disabled = errors.New("IPv6 is disabled on the interface, see sysctl net.ipv6.conf.*.disable_ipv6")

	// ErrUnbound means that the Address has been unbound.
	ErrUnbound = errors.New("the address has been unbound")
)

// Address is an address that [Host.Bind] has bound.
type Address struct {
	// These do not change.
	host   *Host
	index  int // of the interface
	prefix netip.Prefix

	mu      sync.Mutex // guards all following fields; held during Refresh, Extend and Unbind
	unbound bool
}

// Bind adds p to the interface ifindex for a lifetime in whole seconds, rounded
// down. Unless Refresh extends the lifetime, the kernel removes the address within a
// quarter of a second after its end, or within about a second if it has just checked
// the lifetimes of other addresses: its timer checks them at most once a second
// (ADDRCONF_TIMER_FUZZ and ADDRCONF_TIMER_FUZZ_MAX in include/net/addrconf.h).
//
// Bind takes over a leftover of a previous process, which it recognizes by our tag,
// on the same interface, and removes one from any other interface.
//
// The error is a *ForeignError if the host already has the address without our tag,
// on any interface; ErrNoInterface if there is no interface ifindex; ErrIPv6Disabled if
// that takes no IPv6 address; ErrLifetime if the lifetime is out of range.
//
// With the default prefix length, /32 or /128, p is only an address: binding and
// unbinding it affects no other address. A shorter prefix also brings the connected
// route, if the interface has no address of its own in that subnet. But of several
// IPv4 addresses of one subnet on one interface the kernel treats the first as
// primary and the others as secondary. When the first is removed the kernel removes
// the others too, whichever program bound them, unless the sysctl
// net.ipv4.conf.*.promote_secondaries is set (systemd sets it). This package changes
// no sysctl. Watch reports such removals like any other, and Refresh binds our own
// addresses again. Give a host its own address before a floating one of the same
// subnet.
func (h *Host) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (*Address, error) {
	if !p.IsValid() {
		return nil, fmt.Errorf("bind %v: not a valid address", p)
	}
	flags, err := h.prepareBind(ifindex, p)
	if err != nil {
		return nil, err
	}
	a := &Address{host: h, index: ifindex, prefix: p}
	h.ours.add(a)
	err = h.add(ifindex, p, lifetime, flags)
	if err != nil {
		h.ours.remove(a)
	}
	if errors.Is(err, unix.EEXIST) { // another program added it after prepareBind
		return nil, h.foreign(address{index: ifindex, prefix: p})
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Refresh extends the lifetime to end this long after now, in whole seconds rounded
// down. It reports restored if the address was missing, because it was removed or
// had expired, and is bound again. The error is ErrLifetime if the lifetime is out
// of range, and nothing has changed; ErrUnbound after Unbind; ErrNoInterface if the
// interface is gone.
//
// Refresh does not check whose address it extends. If another program has bound the
// same address without a lifetime, Refresh gives it our tag and a lifetime. Watch
// reports that program's request as AddressForeign, and the caller must act on it.
func (a *Address) Refresh(lifetime time.Duration) (restored bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.checkBound("refresh"); err != nil {
		return false, err
	}
	// A replacing request does not tell whether there was an address to replace. An
	// exclusive one does: it fails if there was, and leaves that address unchanged.
	err = a.host.add(a.index, a.prefix, lifetime, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	return false, a.replace(lifetime)
}

// Extend is Refresh for an address that must not be added: if it is missing, Extend
// reports false and changes nothing. The kernel has no request that only extends, so
// Extend looks first; an address that is removed in the moment between is added.
func (a *Address) Extend(lifetime time.Duration) (extended bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.checkBound("extend"); err != nil {
		return false, err
	}
	found, err := a.host.addresses(family(a.prefix.Addr()))
	if err != nil {
		return false, err
	}
	for _, f := range found {
		if f.index == a.index && f.prefix == a.prefix {
			err := a.replace(lifetime)
			return err == nil, err
		}
	}
	return false, nil
}

// checkBound returns ErrUnbound after Unbind. The caller has locked mu.
func (a *Address) checkBound(activity string) error {
	if a.unbound {
		return fmt.Errorf("%s %s: %w", activity, a.prefix, ErrUnbound)
	}
	return nil
}

// replace gives the address a new lifetime, and adds it if it is missing.
func (a *Address) replace(lifetime time.Duration) error {
	return a.host.add(a.index, a.prefix, lifetime, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// Unbind removes the address from the kernel. It returns nil if the address is
// already gone. As soon as Unbind has started, no Refresh or Extend binds the address again.
// After an error it may be called again.
//
// Unbind is a single request. It also removes the same address on the same
// interface if another program has bound it since, because a moment later another
// host may own it.
func (a *Address) Unbind() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unbound = true
	if err := a.host.remove(a.index, a.prefix); err != nil {
		return err
	}
	a.host.ours.remove(a)
	return nil
}

func (h *Host) add(index int, p netip.Prefix, lifetime time.Duration, flags int) error {
	seconds := int64(lifetime / time.Second)
	// The kernel reads the largest number as "no lifetime".
	if seconds < 1 || seconds >= math.MaxUint32 {
		return fmt.Errorf("bind %s for %v: %w", p, lifetime, ErrLifetime)
	}
	_, err := h.execute(newAddr(index, p, h.tag, uint32(seconds), flags), 0)
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("bind %s: %w: index %d", p, ErrNoInterface, index)
	case errors.Is(err, unix.EACCES) && p.Addr().Is6(): // a missing right would be EPERM
		return fmt.Errorf("bind %s: %w", p, ErrIPv6Disabled)
	case err != nil:
		return fmt.Errorf("bind %s: %w", p, err)
	}
	return nil
}

func (h *Host) remove(index int, p netip.Prefix) error {
	_, err := h.execute(delAddr(index, p), 0)
	// The address itself, its interface, or IPv6 on the interface is gone.
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
