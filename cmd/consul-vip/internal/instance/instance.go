// Package instance keeps two processes from running on one host where they would harm each
// other.
package instance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/lease/consul"
)

// ErrRunning means that another process has locked the name.
var ErrRunning = errors.New("an instance is already running on this host")

const (
	// lockTries is how often an instance that starts looks for others. Two that start
	// at the same time may see each other; then both step back for a moment.
	lockTries = 5
	lockPause = 100 * time.Millisecond

	// acceptPause limits what a user who connects all the time costs: nobody sends
	// anything, and the queue of connections is long.
	acceptPause = 10 * time.Millisecond
)

// An Instance is a lock that keeps a second process with one of its names from running on
// this host.
//
// The lock is an abstract socket for each name. Abstract sockets belong to the
// network namespace, as the addresses do, across containers, and close when the
// process ends, even if it is killed. But every user may bind every name. So a socket
// counts only if it is one of this user or of root, which the kernel tells about the
// other end of a connection; and an instance whose name is taken by another user
// takes another one, which begins with the same words and ends with a random one that
// nobody can take before it.
//
// Each instance listens first and looks for others then, so the later of two that
// start at the same time sees the earlier one. The name without a random word is the
// only one of earlier versions: they are seen, and they see every instance that has it.
type Instance struct {
	listeners []*net.UnixListener
	closed    context.CancelFunc
	accepting sync.WaitGroup // acceptAll, for each listener
}

// Lock locks names until Close. The error wraps ErrRunning if another process has one of
// them.
func Lock(ctx context.Context, log hclog.Logger, names ...string) (*Instance, error) {
	open, closed := context.WithCancel(context.Background())
	locked := &Instance{closed: closed}
	for _, name := range names {
		l, err := lockName(ctx, instanceName("consul-vip "+name), log)
		switch {
		case errors.Is(err, ErrRunning):
			err = fmt.Errorf("%w, with %s", err, name)
		case err != nil:
			err = fmt.Errorf("locking the instance by %s: %w", name, err)
		}
		if err != nil {
			locked.Close()
			return nil, err
		}
		locked.listeners = append(locked.listeners, l)
		locked.accepting.Go(func() { acceptAll(open, l) })
	}
	return locked, nil
}

// Close releases the lock.
func (i *Instance) Close() {
	i.closed()
	for _, l := range i.listeners {
		_ = l.Close()
	}
	i.accepting.Wait()
}

// acceptAll takes the connections by which others ask for the owner of the socket, and
// closes them: if the queue were full, nobody could ask.
func acceptAll(open context.Context, l *net.UnixListener) {
	for {
		conn, err := l.Accept()
		if err == nil {
			_ = conn.Close()
		}
		if !consul.Sleep(open, acceptPause) {
			return
		}
	}
}

// lockName returns the listener that locks a name. The error is ErrRunning if another
// instance has locked it.
func lockName(ctx context.Context, name instanceName, log hclog.Logger) (*net.UnixListener, error) {
	for try := 1; ; try++ {
		l, err := name.take(ctx)
		if err != nil {
			return nil, err
		}
		found := name.holders(l.Addr().String())
		if found.instance == nil {
			found.warn(log, name)
			return l, nil
		}
		_ = l.Close()
		if try == lockTries || !consul.Sleep(ctx, consul.Jitter(lockPause)) {
			return nil, fmt.Errorf("%w: process %d of user %d", ErrRunning, found.instance.Pid, found.instance.Uid)
		}
	}
}

// instanceName is the name of an abstract socket, without the zero byte before it.
type instanceName string

// take listens at the name, or at one that begins with it if a stranger has it.
func (n instanceName) take(ctx context.Context) (*net.UnixListener, error) {
	l, err := listenAt(string(n))
	if !errors.Is(err, unix.EADDRINUSE) {
		return l, err
	}
	if holder, err := patientHolderOf(ctx, string(n)); err == nil && ours(holder) {
		return nil, fmt.Errorf("%w: process %d of user %d", ErrRunning, holder.Pid, holder.Uid)
	}
	return listenAt(string(n) + " " + rand.Text())
}

func listenAt(name string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: "@" + name, Net: "unix"})
}

// ours reports whether a process may keep this one from running. The kernel gives the
// user as this process's user namespace knows it, so the root of another one is not 0.
func ours(holder *unix.Ucred) bool {
	return holder.Uid == 0 || int(holder.Uid) == os.Geteuid()
}
