package announcer

import (
	"bytes"
	"net"
	"sync"
	"time"
)

// maxHeard is how many MACs a Wire remembers, more than a segment should have.
const maxHeard = 4096

// heard remembers when a frame of each MAC was received last. The zero value is ready
// to use. It is safe for concurrent use.
type heard struct {
	mu        sync.Mutex // guards all following fields
	last      map[mac48]time.Time
	forgotten time.Time // of any MAC a frame may have been received until then
}

// add records a frame from mac.
func (h *heard) add(mac net.HardwareAddr, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := mac48(mac)
	if _, known := h.last[key]; !known && len(h.last) >= maxHeard {
		for _, t := range h.last {
			if t.After(h.forgotten) {
				h.forgotten = t
			}
		}
		h.last = nil
	}
	if h.last == nil {
		h.last = map[mac48]time.Time{}
	}
	h.last[key] = at
}

// HeardSince reports whether a frame from mac was received after t. It may also be
// true if more than 4,096 stations have sent frames since then.
func (w *Wire) HeardSince(mac net.HardwareAddr, t time.Time) bool {
	if len(mac) != macLen {
		return false
	}
	h := &w.heard
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[mac48(mac)].After(t) || h.forgotten.After(t)
}

// heardFrom returns when a frame from one of the MACs was received last, or the zero
// Time.
func (w *Wire) heardFrom(macs []net.HardwareAddr) (last time.Time) {
	h := &w.heard
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, mac := range macs {
		if at := h.last[mac48(mac)]; at.After(last) {
			last = at
		}
	}
	return last
}

// LastHeard returns when the last frame from another host was received, or the zero
// Time. It calls [Options.Own], as a rule for one MAC only.
func (w *Wire) LastHeard() time.Time {
	for own := map[mac48]bool{}; ; {
		mac, at := w.heard.latest(own)
		if mac == (mac48{}) || !w.isOwn(mac[:]) {
			return at
		}
		own[mac] = true // of another interface of this host
	}
}

// latest returns the MAC that was heard last, but for some, and when. The zero MAC: the
// others are forgotten, and a frame may have been received until then.
func (h *heard) latest(without map[mac48]bool) (mac mac48, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at = h.forgotten
	for m, t := range h.last {
		if t.After(at) && !without[m] {
			mac, at = m, t
		}
	}
	return mac, at
}

// recordHeard records the sender of a message.
func (w *Wire) recordHeard(m message) {
	switch m.verdict {
	case VerdictElsewhere, VerdictMalformed, VerdictForeign, VerdictBadMAC:
		return
	}
	if IsStation(m.mac) && !bytes.Equal(m.mac, *w.mac.Load()) {
		w.heard.add(m.mac, m.received)
	}
}
