package announcer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// A Host is a machine of the segment. Addr is an address of its own there, never a
// floating one.
type Host struct {
	Addr netip.Addr         // the zero Addr: not known
	MACs []net.HardwareAddr // of its interfaces, the first is the one to ask; empty: not known
}

// Has reports whether mac is one of the host's.
func (h Host) Has(mac net.HardwareAddr) bool {
	for _, m := range h.MACs {
		if bytes.Equal(m, mac) {
			return true
		}
	}
	return false
}

// answerWindow is how long an answer may take. A kernel answers within a millisecond.
// RFC 5227, section 1.1, waits 1 to 2 s, too long for a failover.
const answerWindow = 10 * time.Millisecond

// urgentOrdinal ranks requests before all other frames. They are few, and a window or
// an interval counts only if the answer comes in it.
const urgentOrdinal = -1

// echoSpacing is how long an echo that has no answer delays the next one to its host.
const echoSpacing = 2 * time.Millisecond

// errAbandoned: the caller that was to send an echo for several ended first.
var errAbandoned = errors.New("the echo was not sent")

// notAsked reports whether an error says that an echo was not sent, but the next may be.
func notAsked(err error) bool { return errors.Is(err, ErrNotSent) || errors.Is(err, errAbandoned) }

// An echo is a request for a host's own address, sent from an address of this host. It must
// not be a probe from 0.0.0.0 or ::, because a host that probes for its own address at that
// moment would see a duplicate (RFC 5227, section 2.1.1; RFC 4862, section 5.4.3) and give
// the address up.
type echo struct {
	sent  chan struct{} // closed when it has been sent, or will not be
	heard chan struct{} // closed by the reader goroutine at the first answer

	// Set before sent is closed, then constant.
	at  time.Time
	err error // why it was not sent
}

// over reports whether the echo was answered or its window is over.
func (e *echo) over(now time.Time) bool { return e.answered() || now.Sub(e.at) >= answerWindow }

func (e *echo) answered() bool {
	select {
	case <-e.heard:
		return true
	default:
		return false
	}
}

// A neighbor is a host as one address of this host asks for it. Many callers may ask
// at the same time. They share echoes as transactions share a group commit: while one
// echo is under way, all that come share the next. So an echo is sent after everything
// that each of its callers has sent before it, and an answer proves that the host has
// processed all of that.
//
// An answer belongs to the oldest echo that has none. It proves the same if it is one
// to a later echo because a frame got lost. One that comes after its window may be
// taken for one to the next echo. It proves no less: the host sent it after its answers
// to all frames before the earlier one.
type neighbor struct {
	host   Host
	source netip.Addr

	// letGo is set whenever the host turns out to have let an address go. It may have let
	// go of others at the same moment.
	letGo latest.Latest[struct{}]

	mu       sync.Mutex // guards all following fields
	underWay []*echo    // have no answer, oldest first
	last     *echo      // that was sent
	next     *echo      // not sent yet
	answered time.Time  // the last answer was received
	by       net.HardwareAddr
	watchers map[latest.Wake]bool // woken after every answer
}

// accepts reports whether an answer from mac is one of the host.
func (n *neighbor) accepts(mac net.HardwareAddr) bool {
	return IsStation(mac) && (len(n.host.MACs) == 0 || n.host.Has(mac))
}

// join returns the echo that is sent next. The first caller has to send it with
// Wire.sendEcho, in due time after the one before.
func (n *neighbor) join() (next, before *echo, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if first = n.next == nil; first {
		n.next = &echo{sent: make(chan struct{}), heard: make(chan struct{})}
	}
	return n.next, n.last, first
}

// begin is called when the next echo has its turn. It returns the MAC to send it to.
// A host without a known MAC is asked at the one that answered last, and by broadcast
// when that one is silent.
func (n *neighbor) begin() (to net.HardwareAddr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case len(n.host.MACs) > 0:
		to = n.host.MACs[0]
	case n.by != nil && (n.last == nil || n.last.answered() || !n.last.over(time.Now())):
		to = n.by
	default:
		to = broadcast
	}
	n.last, n.next = n.next, nil
	n.last.at = time.Now()
	n.underWay = append(n.underWay, n.last)
	return to
}

// abandon ends an echo that could not be sent.
func (n *neighbor) abandon(e *echo, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e.err = err
	if n.next == e {
		n.next = nil
	}
	if n.last == e {
		n.last = nil
	}
	n.underWay = slices.DeleteFunc(n.underWay, func(u *echo) bool { return u == e })
}

// answer records an answer. It is called by the reader goroutine.
func (n *neighbor) answer(mac net.HardwareAddr, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.accepts(mac) {
		return
	}
	n.answered, n.by = at, mac
	n.expire()
	if len(n.underWay) > 0 {
		close(n.underWay[0].heard)
		n.underWay = n.underWay[1:]
	}
	for w := range n.watchers {
		w.Set()
	}
}

// expire removes the echoes whose window is over. n.mu is locked.
func (n *neighbor) expire() {
	now := time.Now()
	n.underWay = slices.DeleteFunc(n.underWay, func(e *echo) bool { return e.over(now) })
}

// lastAnswer returns when the last answer was received, and its MAC.
func (n *neighbor) lastAnswer() (time.Time, net.HardwareAddr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.answered, n.by
}

// waiting reports whether an answer may still come or an echo is about to be sent.
func (n *neighbor) waiting() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expire()
	return n.next != nil || len(n.underWay) > 0
}

// watch wakes w after every answer until stop is called.
func (n *neighbor) watch(w latest.Wake) (stop func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watchers == nil {
		n.watchers = map[latest.Wake]bool{}
	}
	n.watchers[w] = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers, w)
	}
}

// neighbors are the hosts that this Wire has asked. There are as many as the cluster
// has members, so none is ever removed. The zero value is ready to use. It is safe for
// concurrent use.
type neighbors struct {
	mu     sync.RWMutex // guards all following fields
	byAddr map[neighborAddr][]*neighbor
	macs   map[netip.Addr]net.HardwareAddr // by which each address was answered last
}

// neighborAddr holds the addresses of an answer.
type neighborAddr struct{ sender, target netip.Addr }

// of returns the neighbor for a host, asked from source.
func (ns *neighbors) of(h Host, source netip.Addr) *neighbor {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	key := neighborAddr{h.Addr.Unmap(), source.Unmap()}
	for _, n := range ns.byAddr[key] {
		if sameMACs(n.host.MACs, h.MACs) {
			return n
		}
	}
	n := &neighbor{host: Host{Addr: key.sender, MACs: h.MACs}, source: key.target}
	if ns.byAddr == nil {
		ns.byAddr = map[neighborAddr][]*neighbor{}
		ns.macs = map[netip.Addr]net.HardwareAddr{}
	}
	ns.byAddr[key] = append(ns.byAddr[key], n)
	return n
}

func sameMACs(a, b []net.HardwareAddr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// lastMAC returns the MAC that answered last for addr, or nil if none ever has.
func (ns *neighbors) lastMAC(addr netip.Addr) net.HardwareAddr {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.macs[addr.Unmap()]
}

// answer delivers a reply.
func (ns *neighbors) answer(a neighborAddr, mac net.HardwareAddr, at time.Time) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, n := range ns.byAddr[a] {
		if n.accepts(mac) {
			ns.macs[a.sender] = mac
		}
		n.answer(mac, at)
	}
}

// deliverToNeighbors delivers a message that answers an echo. Only a reply to an address
// of this host does: it proves that the host has heard it.
func (w *Wire) deliverToNeighbors(m message) {
	switch m.verdict {
	case VerdictClaim, VerdictOtherAddress, VerdictStale:
		if a, ok := m.answer(); ok {
			w.neighbors.answer(a, m.mac, m.received)
		}
	}
}

// echo returns an echo to n that was sent after the call began. Its answer may have
// been received already. The ordinal is that of the first caller that shares it. The
// error wraps ErrNotSent, or is errAbandoned, ErrClosed or the cause of ctx.
func (w *Wire) echo(ctx context.Context, n *neighbor, ordinal int) (*echo, error) {
	e, before, first := n.join()
	if first {
		w.sendEcho(ctx, n, ordinal, e, before)
	}
	select {
	case <-e.sent:
		return e, e.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sendEcho sends the next echo to n once the one before was answered or is old enough.
func (w *Wire) sendEcho(ctx context.Context, n *neighbor, ordinal int, e, before *echo) {
	defer close(e.sent)
	if before != nil {
		left := time.NewTimer(echoSpacing - time.Since(before.at))
		defer left.Stop()
		select {
		case <-before.heard:
		case <-left.C:
		case <-ctx.Done():
		}
	}
	err := w.transmit(ctx, ordinal, func(own net.HardwareAddr) Outbound {
		return w.protocol.request(n.begin(), own, n.source, n.host.Addr)
	})
	switch {
	case err == nil:
	case ctx.Err() != nil && !errors.Is(err, ErrNotSent):
		n.abandon(e, errAbandoned)
	default:
		n.abandon(e, err)
	}
}
