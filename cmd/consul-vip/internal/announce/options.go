package announce

import (
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
)

// Options say which address to announce, and how.
type Options struct {
	Prefix    netip.Prefix // the address, with the prefix length to bind it with
	Interface string       // empty: the one in whose subnet the address is

	MAC    net.HardwareAddr // to announce the address for; nil: that of the interface
	Target net.HardwareAddr // the only station to tell; nil: all
	Form   announcer.Form

	Delay    time.Duration // before anything is done
	Schedule announcer.Schedule
	Count    int // announcements, then Run returns; 0: until it is stopped

	Watch            Watch
	WatchDelay       time.Duration // after the first announcement, until which claims do not matter
	WatchImmediately bool          // claims matter from the start, also during Delay
	Wait             time.Duration // how long another station has to let the address go

	Unmanaged         bool // the address is neither bound nor unbound
	DieIfExists       bool // the interface must not have the address yet
	RemovePreExisting bool // in the end it is unbound, even if another program has bound it

	Logger hclog.Logger
}

// Watch is what another station that has the address means.
type Watch string

// The values of Watch.
const (
	WatchFail Watch = "fail" // Run returns ErrConflict
	WatchQuit Watch = "quit" // Run returns nil
	WatchLog  Watch = "log"  // it is logged
	WatchNo   Watch = "no"   // nobody asks or listens
)
