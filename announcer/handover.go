package announcer

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// maxFrameAge is how old a ready or released frame may be. The frame can arrive
// before the receiver has learned from Consul that the handover has begun.
const maxFrameAge = time.Second

// SendReady tells the owner that this host is ready to take addr over. It sends one
// ARP probe to the owner's MAC, or by broadcast if owner is nil, not the MAC of a
// single station, or this host's own. The owner's kernel answers the probe.
//
// It blocks until the frame has had its turn. The error wraps ErrUnsupportedFamily
// or ErrNotSent, or is ErrClosed or the cause of ctx.
func (w *Wire) SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr) error {
	return w.sendProbe(ctx, addr, w.probeTarget(owner))
}

// SendReleased tells the segment that this host has removed addr. It broadcasts one
// ARP probe: a station probes only for an address that it does not have (RFC 5227,
// section 2.1.1). The successor receives it with [Handover.AwaitReleased].
//
// It blocks and fails as [Wire.SendReady] does.
func (w *Wire) SendReleased(ctx context.Context, addr netip.Addr) error {
	return w.sendProbe(ctx, addr, broadcast)
}

// sendProbe sends one ARP probe for addr.
func (w *Wire) sendProbe(ctx context.Context, addr netip.Addr, to net.HardwareAddr) error {
	addr, err := supported(addr)
	if err != nil {
		return err
	}
	return w.transmit(ctx, 0, func(own net.HardwareAddr) Outbound { return arpProbe(to, own, addr) })
}

// A Handover receives the ready and released frames of one address. The owner and
// the successor both use one. Create it with [Wire.Handover] before the handover
// begins, because the first frame may arrive early, and close it after use. One
// goroutine at a time may wait for a frame.
type Handover struct {
	wire   *Wire
	addr   netip.Addr
	probed latest.Wake // set by the reader goroutine after each probe

	mu     sync.Mutex           // guards all following fields
	probes map[string]time.Time // receive times by sender MAC, without senders that have claimed the address since
}

// Handover subscribes to the ready and released frames of addr.
func (w *Wire) Handover(addr netip.Addr) *Handover {
	h := &Handover{wire: w, addr: addr.Unmap(), probed: latest.NewWake(), probes: map[string]time.Time{}}
	w.handovers.add(h.addr, h, func() {})
	return h
}

// AwaitReleased reports whether owner has sent released. It accepts a frame of the
// last second, else it waits for one until the timeout is over or ctx ends. A probe
// that an announcement of owner followed does not count: owner sent it when it took
// the address over.
func (h *Handover) AwaitReleased(ctx context.Context, owner net.HardwareAddr, timeout time.Duration) bool {
	return h.await(ctx, timeout, func(mac string) bool { return mac == string(owner) })
}

// AwaitReady reports whether any station has sent ready. It accepts a frame of the
// last second, else it waits for one until the timeout is over or ctx ends. A probe
// of a third station looks the same, so the result may only decide when to release
// the address.
func (h *Handover) AwaitReady(ctx context.Context, timeout time.Duration) bool {
	return h.await(ctx, timeout, func(string) bool { return true })
}

// await waits for a probe from a station that matches.
func (h *Handover) await(ctx context.Context, timeout time.Duration, matches func(mac string) bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for !h.take(matches) {
		select {
		case <-h.probed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// take removes the probes of all stations that match, so that each counts once. It
// reports whether one of them was recent.
func (h *Handover) take(matches func(mac string) bool) (recent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.probes, func(mac string, at time.Time) bool {
		if !matches(mac) {
			return false
		}
		recent = recent || time.Since(at) <= maxFrameAge
		return true
	})
	return recent
}

// Close ends the subscription. It may be called more than once.
func (h *Handover) Close() { h.wire.handovers.remove(h.addr, h) }

// recordProbe records a probe for the address, received at the given time.
func (h *Handover) recordProbe(mac net.HardwareAddr, at time.Time) {
	h.mu.Lock()
	maps.DeleteFunc(h.probes, func(_ string, at time.Time) bool { return time.Since(at) > maxFrameAge })
	h.probes[string(mac)] = at
	h.mu.Unlock()
	h.probed.Set()
}

// recordClaim removes the probe of a station that now claims the address.
func (h *Handover) recordClaim(mac net.HardwareAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.probes, string(mac))
}

// deliverToHandovers delivers a frame to the handovers of its address.
func (w *Wire) deliverToHandovers(in Inbound, verdict Verdict) {
	switch verdict {
	case VerdictProbe:
		addr, mac := arpProbed(in.Payload)
		for _, h := range w.handovers.of(addr) {
			h.recordProbe(mac, in.Received)
		}
	case VerdictClaim, VerdictOtherAddress:
		addr, mac, _ := arpSender(in.Payload)
		for _, h := range w.handovers.of(addr) {
			h.recordClaim(mac)
		}
	}
}
