package netif

import (
	"bytes"
	"net"
	"net/netip"
)

// Event is an AddressRemoved, AddressForeign, LinkChanged, IdentityChanged or Resync.
// The receiver owns it.
type Event interface{ event() }

// AddressRemoved reports that an address has left an interface: this process or
// another program removed it, it expired, or the interface is gone.
type AddressRemoved struct {
	Index int // of the interface
	Addr  netip.Addr
}

// AddressForeign reports that another program has bound an address without a
// lifetime, or has removed the lifetime of one of ours.
type AddressForeign struct {
	Index int // of the interface
	Addr  netip.Addr
}

// LinkChanged reports the state of a link after at least one of these has changed.
type LinkChanged struct {
	Index        int
	Name         string
	Up           bool // set up, and with a carrier
	HardwareAddr net.HardwareAddr
	Removed      bool // the link does not exist any more
}

// IdentityChanged reports that [Host.Identity] may have another result: a link, an
// address of the host's own or a default route has changed. One event stands for all
// changes that the kernel has reported by then.
type IdentityChanged struct {
	Index int // of the only interface concerned; 0: any
}

// Resync reports that events may have been lost. A LinkChanged follows for each link
// that differs from its last report, an AddressForeign for each address without a
// lifetime, and an IdentityChanged. Missing addresses of ours are not reported: Refresh finds them.
type Resync struct{}

func (AddressRemoved) event()  {}
func (AddressForeign) event()  {}
func (LinkChanged) event()     {}
func (IdentityChanged) event() {}
func (Resync) event()          {}

func (l LinkChanged) equal(o LinkChanged) bool {
	return l.Index == o.Index && l.Name == o.Name && l.Up == o.Up && l.Removed == o.Removed &&
		bytes.Equal(l.HardwareAddr, o.HardwareAddr)
}
