package announcer

import (
	"bytes"
	"context"
	"errors"
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

// A Nonce identifies one handover. Its ready and released frames carry it where receivers of
// a probe ignore it: as target hardware address (RFC 5227, section 2.1.1: it SHOULD be
// zero), or as an option (RFC 3971, section 5.3.2). No other probe can then be taken for one of them. The zero Nonce
// is none: the frames are plain probes.
type Nonce [macLen]byte

// SendReady tells the owner that this host is ready to take addr over. It sends one
// probe to the owner's MAC, or to everybody if owner is nil, not the MAC of a
// single station, or this host's own. The owner's kernel answers the probe.
//
// It blocks until the frame has had its turn. The error wraps ErrUnsupportedFamily
// or ErrNotSent, or is ErrClosed or the cause of ctx.
func (w *Wire) SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr, n Nonce) error {
	return w.sendProbe(ctx, addr, w.probeTarget(owner), n)
}

// SendReleased tells the segment that this host has removed addr. It sends one
// probe to the MAC of the successor, unless successor is nil, not the MAC of a single
// station, or this host's own, and one to everybody. A station probes only for an
// address that it does not have (RFC 5227, section 2.1.1). The successor receives
// them with [Handover.AwaitReleased].
//
// It blocks and fails as [Wire.SendReady] does. The broadcast is sent even if the
// first probe fails.
func (w *Wire) SendReleased(ctx context.Context, addr netip.Addr, successor net.HardwareAddr, n Nonce) error {
	var err error
	// A switch may drop broadcasts above a limit, but not frames to one station.
	if to := w.probeTarget(successor); !bytes.Equal(to, broadcast) {
		err = w.sendProbe(ctx, addr, to, n)
	}
	return errors.Join(err, w.sendProbe(ctx, addr, broadcast, n))
}

// sendProbe sends one probe for addr that carries n.
func (w *Wire) sendProbe(ctx context.Context, addr netip.Addr, to net.HardwareAddr, n Nonce) error {
	addr, err := w.supported(addr)
	if err != nil {
		return err
	}
	return w.transmit(ctx, 0, func(own net.HardwareAddr) Outbound { return w.protocol.word(to, own, addr, n) })
}

// probeTarget returns the MAC to send probes to, or broadcast where mac cannot be
// probed directly. A probe to this host's own MAC would prove nothing.
func (w *Wire) probeTarget(mac net.HardwareAddr) net.HardwareAddr {
	if !IsStation(mac) || w.mayBeOwn(mac) {
		return broadcast
	}
	return mac
}

// A Handover receives the ready and released frames of one address. The owner and
// the successor both use one. Create it with [Wire.Handover] before the handover
// begins, because the first frame may arrive early, and close it after use. One
// goroutine at a time may wait for a frame.
type Handover struct {
	wire   *Wire
	addr   netip.Addr
	probed latest.Wake // set by the reader goroutine after each probe
	closed sync.Once

	mu    sync.Mutex         // guards all following fields
	words map[word]time.Time // receive times, without the words of senders that have claimed the address since
}

// A word is a probe that may be the ready or released frame of a handover.
type word struct {
	mac   string // of the sender
	nonce Nonce
}

// Handover subscribes to the ready and released frames of addr.
func (w *Wire) Handover(addr netip.Addr) *Handover {
	h := &Handover{wire: w, addr: addr.Unmap(), probed: latest.NewWake(), words: map[word]time.Time{}}
	w.handovers.add(h.addr, h, func() {})
	if w.groups != nil {
		w.joining.Record(w.groups.join(solicitedNode(h.addr)))
	}
	return h
}

// AwaitReleased reports whether the owner has sent released in the handover n. It
// accepts a frame of the last second, else it waits for one until the timeout is over
// or ctx ends; with a negative timeout until ctx ends. A probe that an announcement of
// its sender followed does not count: the sender has the address.
//
// With a nonce, only a probe that carries it counts, from any MAC of another host. An
// owner of an older version sends none: with the zero Nonce any probe from the MAC of
// owner counts.
func (h *Handover) AwaitReleased(ctx context.Context, owner net.HardwareAddr, n Nonce, timeout time.Duration) bool {
	return h.await(ctx, timeout, func(w word) bool {
		return w.nonce == n && (n != Nonce{} || w.mac == string(owner))
	})
}

// AwaitReady reports whether the successor has sent ready in the handover n. It
// accepts a frame of the last second, else it waits for one until the timeout is over
// or ctx ends; with a negative timeout until ctx ends.
//
// With the zero Nonce any probe counts. A probe of a third station looks the same, so
// the result may only decide when to release the address.
func (h *Handover) AwaitReady(ctx context.Context, n Nonce, timeout time.Duration) bool {
	return h.await(ctx, timeout, func(w word) bool { return n == Nonce{} || w.nonce == n })
}

// await waits for a word that matches.
func (h *Handover) await(ctx context.Context, timeout time.Duration, matches func(word) bool) bool {
	var expired <-chan time.Time // never, if there is no timeout
	if timeout >= 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	for !h.take(matches) {
		select {
		case <-h.probed:
		case <-expired:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// take removes the words that match, so that each counts once. It reports whether one
// of them was recent.
func (h *Handover) take(matches func(word) bool) (recent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.words, func(w word, at time.Time) bool {
		if !matches(w) {
			return false
		}
		recent = recent || time.Since(at) <= maxFrameAge
		return true
	})
	return recent
}

// Close ends the subscription. It may be called more than once.
func (h *Handover) Close() {
	h.closed.Do(func() {
		h.wire.handovers.remove(h.addr, h)
		if g := h.wire.groups; g != nil {
			h.wire.joining.Record(g.leave(solicitedNode(h.addr)))
		}
	})
}

// recordProbe records a probe for the address, received at the given time.
func (h *Handover) recordProbe(w word, at time.Time) {
	h.mu.Lock()
	maps.DeleteFunc(h.words, func(_ word, at time.Time) bool { return time.Since(at) > maxFrameAge })
	h.words[w] = at
	h.mu.Unlock()
	h.probed.Set()
}

// recordClaim removes the words of a station that now claims the address.
func (h *Handover) recordClaim(mac net.HardwareAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.words, func(w word, _ time.Time) bool { return w.mac == string(mac) })
}

// deliverToHandovers delivers a message to the handovers of its address.
func (w *Wire) deliverToHandovers(m message) {
	switch m.verdict {
	case VerdictProbe:
		handovers := w.handovers.of(m.target)
		if len(handovers) == 0 || m.nonce != (Nonce{}) && w.mayBeOwn(m.mac) {
			return // ready and released carry the same nonce, and a switch may return a frame
		}
		for _, h := range handovers {
			h.recordProbe(word{string(m.mac), m.nonce}, m.received)
		}
	case VerdictClaim, VerdictOtherAddress:
		for _, h := range w.handovers.of(m.sender) {
			h.recordClaim(m.mac)
		}
	}
}
