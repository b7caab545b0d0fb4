package agent

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/config"
)

var errRunning = errors.New("an instance is already running on this host")

// instance is this process's claim to be the only one of its kind here. Two
// with the same prefix would take each other for a dead predecessor, two with
// the same service would refresh each other's check.
type instance []net.Listener

// lockInstance claims the names as abstract sockets: they belong to the
// network namespace, as the addresses do, and end with the process, however it
// ends.
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

func (i instance) Close() {
	for _, l := range i {
		_ = l.Close()
	}
}
