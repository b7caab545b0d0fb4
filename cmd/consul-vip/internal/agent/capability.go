package agent

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

var errIncapable = errors.New("missing capability")

// needed lists the capabilities that every agent needs, with their numbers in
// capabilities(7).
var needed = []struct {
	bit     uint
	purpose string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN (to bind addresses)"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW (to send and hear ARP)"},
}

// checkCapabilities returns an error that names the missing capabilities and how to
// add them. In a user namespace it checks the capabilities there.
func checkCapabilities() error {
	var data [2]unix.CapUserData // the lower 32 capabilities, then the upper 32
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("looking up this process's capabilities: %w", err)
	}
	return lacking(uint64(data[1].Effective)<<32 | uint64(data[0].Effective))
}

// lacking returns an error if a set of capabilities, as a bit mask, is not enough.
func lacking(effective uint64) error {
	var missing []string
	for _, c := range needed {
		if effective&(1<<c.bit) == 0 {
			missing = append(missing, c.purpose)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w: it lacks %s; add it by cap_add in Docker or by AmbientCapabilities in systemd, "+
		`run "setcap cap_net_admin,cap_net_raw+ep" on the program, or run it as root`, errIncapable, strings.Join(missing, " and "))
}
