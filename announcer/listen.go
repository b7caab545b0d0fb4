package announcer

import (
	"net"
	"net/netip"
	"slices"
	"sync"
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
	w.listeners.add(l)
	return l
}

// Claims returns the channel of claims. It holds one: claims that come faster
// than they are taken coalesce into the latest. It is never closed.
func (l *Listener) Claims() <-chan Claim { return l.claims }

// Close ends the subscription. A claim heard before may still be in the
// channel. Closing twice is fine.
func (l *Listener) Close() { l.wire.listeners.remove(l) }

// offer puts c into the channel in place of what nobody took. There is one
// caller, the Wire's reader, so the place it makes stays free for it.
func (l *Listener) offer(c Claim) {
	select {
	case <-l.claims:
	default:
	}
	l.claims <- c
}

// listeners holds who listens for which address.
type listeners struct {
	mu     sync.RWMutex
	byAddr map[netip.Addr][]*Listener // slices are replaced, never changed
}

// of returns the listeners of addr, not to be changed.
func (ls *listeners) of(addr netip.Addr) []*Listener {
	ls.mu.RLock()
	defer ls.mu.RUnlock()
	return ls.byAddr[addr]
}

// add adds l from now on. The lock makes "now" exact: a frame judged before l
// was added was received before, too.
func (ls *listeners) add(l *Listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.byAddr == nil {
		ls.byAddr = make(map[netip.Addr][]*Listener)
	}
	l.since = time.Now()
	ls.byAddr[l.addr] = append(slices.Clip(ls.byAddr[l.addr]), l)
}

func (ls *listeners) remove(l *Listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(ls.byAddr[l.addr]), func(o *Listener) bool { return o == l })
	if len(rest) == 0 {
		delete(ls.byAddr, l.addr)
		return
	}
	ls.byAddr[l.addr] = rest
}
