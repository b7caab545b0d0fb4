package netif

import (
	"bytes"
	"os"
	"path/filepath"
)

// Router reports whether this host forwards IPv6 packets that it receives on the interface
// name, in the network namespace of the calling thread (ip-sysctl, forwarding). If that
// cannot be read, it does not.
func (h *Host) Router(name string) bool {
	value, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "forwarding"))
	return err == nil && !bytes.HasPrefix(value, []byte("0"))
}
