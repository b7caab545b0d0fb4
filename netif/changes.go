package netif

import (
	"bytes"
	"context"

	"golang.org/x/sys/unix"
)

const (
	// anyLink is the index of an IdentityChanged that may concern several links.
	anyLink = 0

	// maxEvents limits how many events an IdentityChanged may wait for, where they
	// arrive faster than they are read.
	maxEvents = 100
)

// changes are the changes of identities that no event has reported yet.
type changes struct {
	some  bool
	index int // of the only interface concerned, or anyLink
	wait  int // how many datagrams were received since the first
}

func (c *changes) add(index int) {
	if c.some && c.index != index {
		index = anyLink
	}
	c.some, c.index = true, index
}

// reportIdentity sends one event for all noted changes, unless more events are queued:
// a change often comes as a burst, and each event makes the receiver list links,
// addresses and routes anew.
func (w *watcher) reportIdentity(ctx context.Context) error {
	if !w.identity.some {
		return nil
	}
	if w.identity.wait++; w.identity.wait < maxEvents && w.queued() {
		return nil
	}
	e := IdentityChanged{Index: w.identity.index}
	w.identity = changes{}
	return w.send(ctx, e)
}

// queued reports whether receive would return at once. Unlike reading, it leaves the
// report of a lost event (ENOBUFS) in the socket.
func (w *watcher) queued() bool {
	conn, err := w.host.events.SyscallConn()
	if err != nil {
		return false
	}
	ready := 0
	err = conn.Control(func(fd uintptr) {
		// After an error, such as EINTR, no event is worth waiting for.
		ready, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err == nil && ready > 0
}

// noteAddress notes a change of an address of the host's own.
func (w *watcher) noteAddress(a address) {
	switch {
	case w.host.own(a):
		// The MACs of all links depend on which links have an address.
		w.identity.add(anyLink)
	case !a.floating() && a.prefix.Addr().Is6() && a.prefix.Addr().IsLinkLocalUnicast():
		w.identity.add(a.index)
	}
}

// noteRoute notes a change of a default route.
func (w *watcher) noteRoute(r route) {
	switch {
	case r.bits != 0:
	case len(r.hops) == 1:
		w.identity.add(r.hops[0].index)
	default:
		w.identity.add(anyLink)
	}
}

// noteLink notes a change of a link that may show in an identity. The kernel removes the
// routes of a link that goes down without reporting them.
func (w *watcher) noteLink(last, l link, removed bool) {
	if removed || last.index != l.index || last.up() != l.up() ||
		last.lower != l.lower || last.master != l.master || last.bonded != l.bonded ||
		!bytes.Equal(last.mac, l.mac) || !bytes.Equal(last.permanent, l.permanent) {
		w.identity.add(anyLink)
	}
}
