package netif

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// readBuffer, in bytes, is larger than any message the kernel sends to subscribers.
const readBuffer = 64 << 10

// errLost means that events were lost or could not be read.
var errLost = errors.New("events were lost")

// Watch sends the events since Open: first every link as it is now and an
// IdentityChanged, then each change. It returns nil when ctx ends, and an error when
// the kernel's events cannot be received any more. Only one Watch may run at a time.
//
// While the receiver is busy the kernel keeps some thousand events. It drops later
// ones, and Watch then sends a Resync.
//
// The kernel reports a lost carrier up to a second late if the link changed less
// than a second before (linkwatch). It reports everything else at once.
func (h *Host) Watch(ctx context.Context, events chan<- Event) error {
	w := &watcher{host: h, events: events, known: make(map[int]link)}
	err := w.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watcher is one run of Watch. The goroutine of that run owns all fields.
type watcher struct {
	host   *Host
	events chan<- Event
	known  map[int]link // each link as last reported, by interface index

	identity changes // reported when no more events are queued
}

func (w *watcher) run(ctx context.Context) error {
	if err := w.reportLinks(ctx); err != nil {
		return err
	}
	buf := make([]byte, readBuffer)
	for {
		if err := w.reportIdentity(ctx); err != nil {
			return err
		}
		err := w.receive(ctx, buf)
		if errors.Is(err, errLost) {
			w.host.log.Warn("rtnetlink events were lost, checking all addresses", "error", err)
			err = w.resync(ctx, buf)
		}
		if err != nil {
			return err
		}
	}
}

// receive reports the events of one datagram.
func (w *watcher) receive(ctx context.Context, buf []byte) error {
	// With MSG_TRUNC n is the full length, even of a datagram larger than buf.
	n, from, err := w.host.events.Recvfrom(ctx, buf, unix.MSG_TRUNC)
	switch {
	case errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("%w: %w", errLost, err)
	case err != nil:
		return fmt.Errorf("receive rtnetlink events: %w", err)
	case n > len(buf):
		return fmt.Errorf("%w: a datagram of %d bytes is too long", errLost, n)
	}
	// Any process may send to a netlink socket. The kernel's port is 0.
	if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
		return nil
	}
	msgs, err := syscall.ParseNetlinkMessage(buf[:align(n)])
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	for _, m := range msgs {
		if err := w.report(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// report reports one message of the kernel.
func (w *watcher) report(ctx context.Context, m syscall.NetlinkMessage) error {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, err := parseLink(m.Data)
		if err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		if l.partial {
			return nil
		}
		return w.reportLink(ctx, l, m.Header.Type == unix.RTM_DELLINK)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, err := parseAddress(m.Data)
		if err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		w.noteAddress(a)
		if m.Header.Type == unix.RTM_DELADDR {
			return w.send(ctx, AddressRemoved{Index: a.index, Addr: a.prefix.Addr()})
		}
		return w.reportForeign(ctx, a)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, err := parseRoute(m.Data)
		if err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		w.noteRoute(r)
	}
	return nil
}

// reportForeign reports an existing address if it cannot be ours. Ours always have a
// lifetime. The tag proves less: an older kernel drops it from our addresses too.
func (w *watcher) reportForeign(ctx context.Context, a address) error {
	if !a.permanent {
		return nil
	}
	return w.send(ctx, AddressForeign{Index: a.index, Addr: a.prefix.Addr()})
}

// reportLinks lists the links and reports each one that differs from its last report.
func (w *watcher) reportLinks(ctx context.Context) error {
	links, err := w.host.links()
	if err != nil {
		return err
	}
	gone := make(map[int]bool)
	for index := range w.known {
		gone[index] = true
	}
	for _, l := range links {
		delete(gone, l.index)
		if err := w.reportLink(ctx, l, false); err != nil {
			return err
		}
	}
	for index := range gone {
		if err := w.reportLink(ctx, w.known[index], true); err != nil {
			return err
		}
	}
	return nil
}

// reportLink reports a link if it differs from its last report.
func (w *watcher) reportLink(ctx context.Context, l link, removed bool) error {
	last, known := w.known[l.index]
	w.noteLink(last, l, removed)
	l = l.clone() // l shares the read buffer's memory
	w.known[l.index] = l
	if removed {
		delete(w.known, l.index)
	}
	now := linkChanged(l, removed)
	if known && now.equal(linkChanged(last, false)) {
		return nil
	}
	return w.send(ctx, now)
}

// linkChanged returns the report of a link. The receiver owns it.
func linkChanged(l link, removed bool) LinkChanged {
	return LinkChanged{
		Index:        l.index,
		Name:         l.name,
		Up:           l.up() && !removed,
		HardwareAddr: bytes.Clone(l.mac),
		Removed:      removed,
	}
}

func (w *watcher) send(ctx context.Context, e Event) error {
	select {
	case w.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
