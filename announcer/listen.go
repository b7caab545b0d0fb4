package announcer

import (
	"net"
	"net/netip"
	"time"
)

// A Claim is a frame in which another station says that an address is its own.
type Claim struct {
	Addr     netip.Addr
	MAC      net.HardwareAddr // of the claiming station, never of this host
	Received time.Time        // by the kernel; on the monotonic clock
}

// A Listener receives the claims of one address. Create it with [Wire.Listen] and
// close it after use. It is safe for concurrent use.
type Listener struct {
	wire  *Wire
	addr  netip.Addr
	since time.Time // set before the reader sees the Listener, then constant

	claims chan Claim  // holds the latest claim; only the reader goroutine sends
	all    func(Claim) // if set, called by the reader goroutine for every claim instead; must not block
}

// Listen subscribes to the claims of addr. Frames that the kernel received before
// the call are ignored, even if they still wait in the socket.
func (w *Wire) Listen(addr netip.Addr) *Listener {
	return w.listen(&Listener{addr: addr.Unmap(), claims: make(chan Claim, 1)})
}

// listenAll calls all for every claim of addr until the Listener is closed.
func (w *Wire) listenAll(addr netip.Addr, all func(Claim)) *Listener {
	return w.listen(&Listener{addr: addr.Unmap(), all: all})
}

func (w *Wire) listen(l *Listener) *Listener {
	l.wire = w
	w.listeners.add(l.addr, l, func() { l.since = time.Now() })
	return l
}

// Claims returns the channel of claims. It holds one claim: a newer one replaces
// one that was not received. It is never closed.
func (l *Listener) Claims() <-chan Claim { return l.claims }

// Close ends the subscription. The channel may still hold a claim from before. It
// may be called more than once.
func (l *Listener) Close() { l.wire.listeners.remove(l.addr, l) }

// deliver puts c into the channel and drops an older claim. It never blocks,
// because the reader goroutine alone sends.
func (l *Listener) deliver(c Claim) {
	if l.all != nil {
		l.all(c)
		return
	}
	select {
	case <-l.claims:
	default:
	}
	l.claims <- c
}
