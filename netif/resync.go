package netif

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// resync reports the present state after events were lost.
func (w *watcher) resync(ctx context.Context, buf []byte) error {
	if err := w.drainEvents(buf); err != nil {
		return err
	}
	if err := w.send(ctx, Resync{}); err != nil {
		return err
	}
	if err := w.reportLinks(ctx); err != nil {
		return err
	}
	w.identity.add(anyLink)
	addresses, err := w.host.addresses(unix.AF_UNSPEC)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if err := w.reportForeign(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// drainEvents discards the events that are still queued. They are older than the
// list of links that resync is about to read, and would undo its changes. Besides,
// after an overrun the kernel queues no event until the queue is empty.
func (w *watcher) drainEvents(buf []byte) error {
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
