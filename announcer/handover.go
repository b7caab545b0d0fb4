package announcer

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"sync"
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
type Heir struct {
	wire *Wire
	addr netip.Addr

	mu      sync.Mutex
	yields  map[string]time.Time // by the MAC that probed and has not claimed since
	changed chan struct{}        // closed at the next yield
}

// Heir subscribes to what is said of addr from now on, until Close.
func (w *Wire) Heir(addr netip.Addr) *Heir {
	h := &Heir{wire: w, addr: addr.Unmap(), yields: map[string]time.Time{}, changed: make(chan struct{})}
	w.heirs.add(h.addr, h, func() {})
	return h
}

// Await reports whether owner has yielded the address, within the last second
// or for as long as patience and ctx allow. A probe that owner's own
// announcement followed was no yield: that is how it once came by the address.
func (h *Heir) Await(ctx context.Context, owner net.HardwareAddr, patience time.Duration) bool {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		yielded, changed := h.take(owner)
		if yielded {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// take takes owner's yield, which serves one inheritance only.
func (h *Heir) take(owner net.HardwareAddr) (bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.yields[string(owner)]
	delete(h.yields, string(owner))
	return ok && time.Since(at) <= yieldedAgo, h.changed
}

// Close ends the subscription. Closing twice is fine.
func (h *Heir) Close() { h.wire.heirs.remove(h.addr, h) }

// probed and claimed are what the Wire's reader tells.
func (h *Heir) probed(mac net.HardwareAddr, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.yields, func(_ string, at time.Time) bool { return time.Since(at) > yieldedAgo })
	h.yields[string(mac)] = at
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Heir) claimed(mac net.HardwareAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.yields, string(mac))
}

// tellHeirs passes on what a frame says to those who wait for its address.
func (w *Wire) tellHeirs(in inbound, verdict Verdict) {
	switch verdict {
	case VerdictProbe:
		addr, mac := arpProbed(in.payload)
		for _, h := range w.heirs.of(addr) {
			h.probed(mac, in.received)
		}
	case VerdictClaim, VerdictOtherAddress:
		addr, mac, _ := arpSender(in.payload)
		for _, h := range w.heirs.of(addr) {
			h.claimed(mac)
		}
	}
}
