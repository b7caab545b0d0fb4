package localstatus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse means that another process listens at the path.
var ErrInUse = errors.New("another process listens there")

// ownerOnly is the mode of the socket.
const ownerOnly fs.FileMode = 0o600

// dialTimeout bounds asking whether anybody listens, which the kernel answers at once.
const dialTimeout = time.Second

// Listen listens at a socket that only this user and root can connect to. It replaces the
// socket of a process that has ended. The directory must exist. Closing the listener
// removes the socket. The error wraps [ErrInUse] if another process listens there.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	// Of two processes that find the same old socket, one must not remove the other's new one.
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	l, err := listen(ctx, path)
	if !errors.Is(err, unix.EADDRINUSE) {
		return l, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	return listen(ctx, path)
}

// listen makes the socket. Linux gives its file the mode that the socket has before it is
// bound, so the file is never open to others.
func listen(ctx context.Context, path string) (net.Listener, error) {
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), uint32(ownerOnly)) })
		return errors.Join(err, failed)
	}}
	l, err := private.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Perm()&^ownerOnly != 0 {
		err = fmt.Errorf("%s: the kernel has given it the mode %s", path, info.Mode())
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes the socket of a process that has ended.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("%s: %w", path, ErrInUse)
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	}
	return err // such as a full queue: somebody may be there
}

// lockDir locks a directory against other processes that make sockets in it.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
	case err != nil:
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() { _ = f.Close() }, nil
}
