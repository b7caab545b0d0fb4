package announcer

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"
)

// heardAgo is how old a word may be when it is looked for: the news of who is
// the heir may travel more slowly than the frame.
const heardAgo = time.Second

// SendReady tells owner that the heir of addr is here and waits for it to be yielded,
// by one ARP probe to owner alone, or to all where it is not known. Its kernel
// answers that it has the address, which the heir knows.
func (w *Wire) SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr) error {
	return w.probe(ctx, addr, w.askee(owner))
}

// SendReleased tells the link that this host has given addr up, by one ARP probe to
// all: only who does not own an address probes for it (RFC 5227, section 2.1.1).
// Whoever does answers; whoever waits for the address as its [Handover] takes it.
func (w *Wire) SendReleased(ctx context.Context, addr netip.Addr) error {
	return w.probe(ctx, addr, broadcast)
}

// probe sends a single ARP probe for addr.
func (w *Wire) probe(ctx context.Context, addr netip.Addr, to net.HardwareAddr) error {
	addr, err := supported(addr)
	if err != nil {
		return err
	}
	return w.transmit(ctx, 0, func(own net.HardwareAddr) outbound { return arpProbe(to, own, addr) })
}

// A Handover hears both sides of a handover: its address being yielded, also before
// it knows that it is to inherit it, and being called for, once it has inherited
// it. Create it with [Wire.Heir] in good time.
type Handover struct {
	wire *Wire
	addr netip.Addr

	mu      sync.Mutex
	probes  map[string]time.Time // by the MAC that probed and has not claimed since
	changed chan struct{}        // closed at the next probe
}

// Handover subscribes to what is said of addr from now on, until Close.
func (w *Wire) Handover(addr netip.Addr) *Handover {
	h := &Handover{wire: w, addr: addr.Unmap(), probes: map[string]time.Time{}, changed: make(chan struct{})}
	w.heirs.add(h.addr, h, func() {})
	return h
}

// AwaitReleased reports whether owner has yielded the address, within the last second
// or for as long as patience and ctx allow. A probe that owner's own
// announcement followed was no yield: that is how it once came by the address.
func (h *Handover) AwaitReleased(ctx context.Context, owner net.HardwareAddr, patience time.Duration) bool {
	return h.await(ctx, patience, func(mac string) bool { return mac == string(owner) })
}

// AwaitReady reports whether anybody has called for the address, within the last
// second or for as long as patience and ctx allow. It does not tell a call from
// the question of a third, so nothing may depend on it but when to yield.
func (h *Handover) AwaitReady(ctx context.Context, patience time.Duration) bool {
	return h.await(ctx, patience, func(string) bool { return true })
}

func (h *Handover) await(ctx context.Context, patience time.Duration, wanted func(mac string) bool) bool {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		heard, changed := h.take(wanted)
		if heard {
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

// take takes the probes that are wanted, each of which serves once only.
func (h *Handover) take(wanted func(mac string) bool) (heard bool, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.probes, func(mac string, at time.Time) bool {
		if !wanted(mac) {
			return false
		}
		heard = heard || time.Since(at) <= heardAgo
		return true
	})
	return heard, h.changed
}

// Close ends the subscription. Closing twice is fine.
func (h *Handover) Close() { h.wire.heirs.remove(h.addr, h) }

// probed and claimed are what the Wire's reader tells.
func (h *Handover) probed(mac net.HardwareAddr, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.probes, func(_ string, at time.Time) bool { return time.Since(at) > heardAgo })
	h.probes[string(mac)] = at
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Handover) claimed(mac net.HardwareAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.probes, string(mac))
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
