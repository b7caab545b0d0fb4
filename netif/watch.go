package netif

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// readBuffer is larger than any message the kernel sends to subscribers.
const readBuffer = 64 << 10

// errLost says that events were lost, or could not be read.
var errLost = errors.New("events were lost")

// Event is an AddressRemoved, AddressForeign, LinkChanged or Resync.
type Event interface{ event() }

// AddressRemoved says that an address has left an interface: removed by this
// process or another, expired, or gone with the interface.
type AddressRemoved struct {
	Index int // of the interface
	Addr  netip.Addr
}

// AddressForeign says that another program has bound an address without a
// lifetime, or made one of ours permanent.
type AddressForeign struct {
	Index int // of the interface
	Addr  netip.Addr
}

// LinkChanged is the state of a link, reported when one of these has changed.
type LinkChanged struct {
	Index        int
	Name         string
	Up           bool // set up, and with a carrier
	HardwareAddr net.HardwareAddr
	Removed      bool // the link does not exist any more
}

// Resync says that events may have been lost. A LinkChanged follows for each
// link that is not as last reported, and an AddressForeign for each address
// without a lifetime; whether one of ours is still there, Refresh finds out.
type Resync struct{}

func (AddressRemoved) event() {}
func (AddressForeign) event() {}
func (LinkChanged) event()    {}
func (Resync) event()         {}

// Watch reports to events what has happened since Open: first every link as it
// is, then each change. It returns nil when ctx ends, and an error when the
// kernel cannot be listened to any more. While the receiver keeps it waiting
// the kernel keeps some thousand events; after that they are lost, and a Resync
// says so. Only one Watch may run at a time.
//
// The kernel itself reports that a carrier was lost up to a second late, if the
// link changed less than a second before (linkwatch), all else at once.
func (h *Host) Watch(ctx context.Context, events chan<- Event) error {
	w := &watcher{host: h, events: events, known: make(map[int]LinkChanged)}
	err := w.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watcher is one run of Watch.
type watcher struct {
	host   *Host
	events chan<- Event
	known  map[int]LinkChanged // the links as last reported
}

func (w *watcher) run(ctx context.Context) error {
	if err := w.links(ctx); err != nil {
		return err
	}
	buf := make([]byte, readBuffer)
	for {
		err := w.receive(ctx, buf)
		if errors.Is(err, errLost) {
			w.host.log.Warn("rtnetlink events were lost, looking again", "error", err)
			err = w.resync(ctx, buf)
		}
		if err != nil {
			return err
		}
	}
}

// receive reports the events of one datagram.
func (w *watcher) receive(ctx context.Context, buf []byte) error {
	// MSG_TRUNC: the whole length, even of a datagram that did not fit.
	n, from, err := w.host.events.Recvfrom(ctx, buf, unix.MSG_TRUNC)
	switch {
	case errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("%w: %w", errLost, err)
	case err != nil:
		return fmt.Errorf("receive rtnetlink events: %w", err)
	case n > len(buf):
		return fmt.Errorf("%w: a datagram of %d bytes", errLost, n)
	}
	// Any process may send to a netlink socket; the kernel is number 0.
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
		return w.link(ctx, l, m.Header.Type == unix.RTM_DELLINK)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, err := parseAddress(m.Data)
		if err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		if m.Header.Type == unix.RTM_DELADDR {
			return w.send(ctx, AddressRemoved{Index: a.index, Addr: a.prefix.Addr()})
		}
		return w.address(ctx, a)
	}
	return nil
}

// address reports an address that is there if it cannot be ours. Ours always
// have a lifetime. The tag would tell less: a kernel that does not know it
// shows ours without.
func (w *watcher) address(ctx context.Context, a address) error {
	if !a.permanent {
		return nil
	}
	return w.send(ctx, AddressForeign{Index: a.index, Addr: a.prefix.Addr()})
}

// resync starts afresh after a loss.
func (w *watcher) resync(ctx context.Context, buf []byte) error {
	if err := w.drain(buf); err != nil {
		return err
	}
	if err := w.send(ctx, Resync{}); err != nil {
		return err
	}
	if err := w.links(ctx); err != nil {
		return err
	}
	addresses, err := w.host.addresses(unix.AF_UNSPEC)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if err := w.address(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// drain drops what is still queued. It is from before the loss: read after the
// links have been listed anew it would undo what they showed. And until the
// queue is empty the kernel adds nothing to it.
func (w *watcher) drain(buf []byte) error {
	conn, err := w.host.events.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) {
		for {
			_, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
}

// links reports every link that is not as last reported.
func (w *watcher) links(ctx context.Context) error {
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
		if err := w.link(ctx, l, false); err != nil {
			return err
		}
	}
	for index := range gone {
		last := w.known[index]
		if err := w.link(ctx, link{index: index, name: last.Name, mac: last.HardwareAddr}, true); err != nil {
			return err
		}
	}
	return nil
}

// link reports a link, unless it is as last reported.
func (w *watcher) link(ctx context.Context, l link, removed bool) error {
	now := LinkChanged{
		Index:        l.index,
		Name:         l.name,
		Up:           l.up() && !removed,
		HardwareAddr: bytes.Clone(l.mac), // of the read buffer
		Removed:      removed,
	}
	last, known := w.known[l.index]
	if known && now.equal(last) {
		return nil
	}
	w.known[l.index] = now
	if removed {
		delete(w.known, l.index)
	}
	return w.send(ctx, now)
}

func (l LinkChanged) equal(o LinkChanged) bool {
	return l.Index == o.Index && l.Name == o.Name && l.Up == o.Up && l.Removed == o.Removed &&
		bytes.Equal(l.HardwareAddr, o.HardwareAddr)
}

func (w *watcher) send(ctx context.Context, e Event) error {
	select {
	case w.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
