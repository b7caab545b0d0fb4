package announcer

import (
	"net"
	"net/netip"
	"time"
)

// A Claim is a frame in which another host says that it has an address.
type Claim struct {
	Addr     netip.Addr
	MAC      net.HardwareAddr // whose claim it is; not this host's
	Received time.Time        // by the kernel; on the monotonic clock
}

// A Listener hears claims on one address until it is closed.
type Listener struct {
	wire   *Wire
	addr   netip.Addr
	since  time.Time
	claims chan Claim
}

// Listen subscribes to the claims on addr among the frames that the kernel
// receives from now on; those that wait in the socket are history. An address
// of a family the wire does not speak is never claimed.
func (w *Wire) Listen(addr netip.Addr) *Listener {
	l := &Listener{wire: w, addr: addr.Unmap(), claims: make(chan Claim, 1)}
	w.listeners.add(l.addr, l, func() { l.since = time.Now() })
	return l
}

// Claims returns the channel of claims. It holds one: claims that come faster
// than they are taken coalesce into the latest. It is never closed.
func (l *Listener) Claims() <-chan Claim { return l.claims }

// Close ends the subscription. A claim heard before may still be in the
// channel. Closing twice is fine.
func (l *Listener) Close() { l.wire.listeners.remove(l.addr, l) }

// offer puts c into the channel in place of what nobody took. There is one
// caller, the Wire's reader, so the place it makes stays free for it.
func (l *Listener) offer(c Claim) {
	select {
	case <-l.claims:
	default:
	}
	l.claims <- c
}
