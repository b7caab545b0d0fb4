package instance

import (
	"bufio"
	"context"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/lease/consul"
)

const (
	// askTries and askPause are how long a socket that does not take a connection is
	// asked again. An instance binds a name an instant before it listens there.
	askTries = 5
	askPause = 20 * time.Millisecond
	// lookTime limits the search for other instances. Each socket costs some
	// microseconds, so only an attacker with very many of them makes it that long.
	lookTime = 2 * time.Second
)

// holders are the processes that hold the names of an instance.
type holders struct {
	instance *unix.Ucred // the first that counts as an instance
	stranger *unix.Ucred // the first of another user
	ignored  int         // sockets of other users, and those that take no connection
	late     bool        // there were too many to look at all
}

// warn tells which sockets are ignored, if there are any.
func (h holders) warn(log hclog.Logger, name instanceName) {
	args := []any{"name", "@" + string(name), "sockets", h.ignored}
	if h.stranger != nil {
		args = append(args, "uid", h.stranger.Uid, "pid", h.stranger.Pid)
	}
	switch {
	case h.late:
		log.Warn("too many sockets have the name of an instance, another instance may have been missed", args...)
	case h.ignored > 0:
		log.Warn("ignoring sockets that have the name of an instance, but belong to another user or do not answer", args...)
	}
}

// holders finds out who holds the name and those that begin with it, except for own,
// as net prints it.
func (n instanceName) holders(own string) (found holders) {
	deadline := time.Now().Add(lookTime)
	for name := range n.bound() {
		if "@"+name == own {
			continue
		}
		if found.late = time.Now().After(deadline); found.late {
			return found
		}
		holder, err := holderOf(name)
		if err == nil && ours(holder) {
			found.instance = holder
			return found
		}
		found.ignored++
		if err == nil && found.stranger == nil {
			found.stranger = holder
		}
	}
	return found
}

// bound yields the name, and each that begins with it, of the stream sockets in this
// network namespace. A name may hold anything, also a line that looks like another
// socket's: what is yielded need not exist.
func (n instanceName) bound() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		// That of the process would be another one's in a test, which has a thread in a
		// namespace of its own.
		file, err := os.Open("/proc/thread-self/net/unix")
		if err != nil {
			yield(string(n)) // without /proc: only the name itself can be asked for
			return
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if name, ok := n.in(lines.Text()); ok && !yield(name) {
				return
			}
		}
	}
}

// in is the socket's name in a line of /proc/net/unix, if it is the name or begins with
// it:
//
//	Num       RefCount Protocol Flags    Type St Inode Path
//	00000000: 00000002 00000000 00010000 0001 01 16163 @consul-vip prefix=consul-vip
func (n instanceName) in(line string) (string, bool) {
	const (
		stream      = "0001" // a name of another type is another name
		unconnected = "01"   // the connections in the queue of a listener have its name, too
	)
	facts, path, ok := strings.Cut(line, " @"+string(n))
	fields := strings.Fields(facts)
	if !ok || len(fields) != 7 || fields[4] != stream || fields[5] != unconnected || path != "" && path[0] != ' ' {
		return "", false
	}
	return string(n) + path, true
}

// patientHolderOf is holderOf for a name that is known to be taken.
func patientHolderOf(ctx context.Context, name string) (holder *unix.Ucred, err error) {
	for range askTries {
		holder, err = holderOf(name)
		if err == nil || !consul.Sleep(ctx, askPause) {
			break
		}
	}
	return holder, err
}

// holderOf returns the process that listens at a name, as it was when it began to. It
// never waits: it is an error if nobody listens, or if the queue of connections is full.
func holderOf(name string) (*unix.Ucred, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + name}); err != nil {
		return nil, err
	}
	return unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
}
