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

// errClosed is the error of every use of a closed namespace.
var errClosed = errors.New("the namespace is closed")

// namespace is an anonymous network namespace and one OS thread that is in it. The
// file system has no name for it, so the kernel removes it when the lab's process
// ends for any reason.
//
// The thread lasts as long as the namespace: the kernel sends a process's
// parent-death signal when the thread that started it ends, not when that thread's
// process ends.
type namespace struct {
	handle netns.NsHandle
	calls  chan func()   // received by the thread
	quit   chan struct{} // closed to end the thread
	done   chan struct{} // closed when the thread ends
}

// newNamespace makes an empty namespace whose loopback interface is down. The error
// is EPERM if the process may not make one.
func newNamespace() (*namespace, error) {
	n := &namespace{
		calls: make(chan func()),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	ready := make(chan error)
	go n.run(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return n, nil
}

// run locks a thread, moves it into a new namespace and makes the calls that do sends.
// It never unlocks the thread: the thread ends with the goroutine, and then the kernel
// kills every process that the thread started.
func (n *namespace) run(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread cannot end before the process does. This
		// goroutine occupies it until a new goroutine runs on another thread.
		found := make(chan error)
		go n.run(found)
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

// do runs f on the namespace's thread and returns f's error. Calls run one after the
// other. Sockets that f opens stay in the namespace; any goroutine may use them.
func (n *namespace) do(f func() error) error {
	result := make(chan error, 1)
	select {
	case n.calls <- func() { result <- f() }:
		return <-result
	case <-n.done:
		return errClosed
	}
}

// close ends the thread. The kernel kills every process that it started and that
// still runs.
func (n *namespace) close() error {
	close(n.quit)
	<-n.done
	return n.handle.Close()
}

// dial connects from within the namespace. The address should be one that answers or
// refuses at once, because the call occupies the namespace's thread.
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
