// Package capability checks that the process has the capabilities that it needs, before
// the kernel refuses something in the middle of its work.
package capability

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrMissing means that the process lacks a capability.
var ErrMissing = errors.New("missing capability")

// A Capability is one of capabilities(7).
type Capability struct {
	bit     uint
	name    string
	purpose string
}

// The capabilities that commands need.
var (
	NetAdmin = Capability{unix.CAP_NET_ADMIN, "cap_net_admin", "to bind addresses"}
	NetRaw   = Capability{unix.CAP_NET_RAW, "cap_net_raw", "to send and hear ARP"}
)

// Check returns an error that names the missing capabilities and how to add them. In a
// user namespace it checks the capabilities there.
func Check(needed ...Capability) error {
	var data [2]unix.CapUserData // the lower 32 capabilities, then the upper 32
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("looking up this process's capabilities: %w", err)
	}
	return lacking(uint64(data[1].Effective)<<32|uint64(data[0].Effective), needed)
}

// lacking returns an error if a set of capabilities, as a bit mask, is not enough.
func lacking(effective uint64, needed []Capability) error {
	var missing, all []string
	for _, c := range needed {
		all = append(all, c.name)
		if effective&(1<<c.bit) == 0 {
			missing = append(missing, fmt.Sprintf("%s (%s)", strings.ToUpper(c.name), c.purpose))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w: it lacks %s; add it by cap_add in Docker or by AmbientCapabilities in systemd, "+
		`run "setcap %s+ep" on the program, or run it as root`, ErrMissing, strings.Join(missing, " and "), strings.Join(all, ","))
}
