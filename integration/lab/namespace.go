package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// errClosed is returned by every use of a namespace that has been closed.
var errClosed = errors.New("the namespace is closed")

// namespace is an anonymous network namespace together with the one OS thread
// that lives in it. Nothing names it in the file system, so nothing is left of
// it once the lab's process has ended, however it ended.
//
// The thread lasts as long as the namespace: a process's parent-death signal
// fires when the thread that started it ends, not when its process does.
type namespace struct {
	handle netns.NsHandle
	calls  chan func()
	quit   chan struct{}
	done   chan struct{}
}

// newNamespace makes an empty namespace whose loopback interface is down.
// The error is EPERM where the process may not make one.
func newNamespace() (*namespace, error) {
	n := &namespace{
		calls: make(chan func()),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	ready := make(chan error)
	go n.live(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return n, nil
}

// live locks a thread, moves it into a new namespace and runs what do sends.
// The thread is never unlocked: it ends with the goroutine, and with it
// every process it started.
func (n *namespace) live(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread can't end before the process does. Occupy
		// it until a goroutine started now has found another one.
		found := make(chan error)
		go n.live(found)
		ready <- <-found
		runtime.UnlockOSThread()
		return
	}
	defer close(n.done)
	handle, err := netns.New()
	n.handle = handle
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case call := <-n.calls:
			call()
		case <-n.quit:
			return
		}
	}
}

// do runs f on the namespace's thread and returns f's error. Calls run one
// after the other. Sockets that f opens belong to the namespace for good and
// may be used from any goroutine afterwards.
func (n *namespace) do(f func() error) error {
	result := make(chan error, 1)
	select {
	case n.calls <- func() { result <- f() }:
		return <-result
	case <-n.done:
		return errClosed
	}
}

// close ends the thread; every process still alive that was started on it is
// killed by the kernel.
func (n *namespace) close() error {
	close(n.quit)
	<-n.done
	return n.handle.Close()
}

// dial connects from within the namespace. It's meant for addresses that
// answer or refuse at once, because it occupies the namespace's thread.
func (n *namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// listen opens a listener within the namespace.
func (n *namespace) listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := n.do(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// netlink opens a handle on the namespace.
func (n *namespace) netlink() (*netlink.Handle, error) {
	var handle *netlink.Handle
	err := n.do(func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	return handle, err
}
