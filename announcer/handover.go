package announcer

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"time"
)

// yieldedAgo is how old a yield may be when its heir looks for it: the news of
// who is the heir may travel more slowly than the frame.
const yieldedAgo = time.Second

// Yield tells the link that this host has given addr up, by one ARP probe to
// all: only who does not own an address probes for it (RFC 5227, section 2.1.1).
// Whoever does answers; whoever waits for the address as its [Heir] takes it.
func (w *Wire) Yield(ctx context.Context, addr netip.Addr) error {
	addr, err := supported(addr)
	if err != nil {
		return err
	}
	return w.transmit(ctx, 0, func(own net.HardwareAddr) outbound { return arpProbe(broadcast, own, addr) })
}

// An Heir hears its address being yielded, also before it knows that it is to
// inherit it. Create it with [Wire.Heir] in good time.
type Heir struct{ listener *Listener }

// Heir subscribes to the probes for addr that come from now on, until Close.
func (w *Wire) Heir(addr netip.Addr) *Heir {
	l := &Listener{wire: w, addr: addr.Unmap(), claims: make(chan Claim, 1)}
	w.heirs.add(l)
	return &Heir{listener: l}
}

// Await reports whether owner has yielded the address, within the last second
// or for as long as patience and ctx allow.
func (h *Heir) Await(ctx context.Context, owner net.HardwareAddr, patience time.Duration) bool {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case probe := <-h.listener.claims:
			if bytes.Equal(probe.MAC, owner) && time.Since(probe.Received) <= yieldedAgo {
				return true
			}
		case <-timeout.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// Close ends the subscription. Closing twice is fine.
func (h *Heir) Close() { h.listener.wire.heirs.remove(h.listener) }

// tellHeirs passes a probe on to those who wait for its address.
func (w *Wire) tellHeirs(in inbound) {
	addr, mac := arpProbed(in.payload)
	for _, l := range w.heirs.of(addr) {
		l.offer(Claim{Addr: addr, MAC: mac, Received: in.received})
	}
}
