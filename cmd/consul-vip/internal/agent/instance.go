package agent

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/config"
)

var errRunning = errors.New("an instance is already running on this host")

// instance is a lock that keeps a second process with the same prefix or service
// from running on this host. With the same prefix they would destroy each other's
// session and remove each other's addresses, as those of a previous process. With
// the same service they would refresh each other's check.
type instance []net.Listener

// lockInstance locks prefix and service by abstract sockets. These belong to the
// network namespace, as the addresses do, and close when the process ends, even if
// it is killed.
func lockInstance(c config.Consul) (instance, error) {
	var locked instance
	for _, name := range []string{"prefix=" + c.Prefix, "service=" + c.Service} {
		l, err := net.Listen("unix", "@consul-vip "+name)
		if err != nil {
			locked.Close()
			if errors.Is(err, unix.EADDRINUSE) {
				return nil, fmt.Errorf("%w, with %s", errRunning, name)
			}
			return nil, fmt.Errorf("locking the instance by %s: %w", name, err)
		}
		locked = append(locked, l)
	}
	return locked, nil
}

// Close releases the lock.
func (i instance) Close() {
	for _, l := range i {
		_ = l.Close()
	}
}
