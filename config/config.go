// Package config reads consul-vip's configuration: HCL files in, checked
// values out. What Load returns needs no further checking, and what it refuses
// it explains: every problem at once, each with its file, line and column, the
// line itself and what to write instead.
package config

import (
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"
)

// The values of keys that a configuration leaves out.
const (
	DefaultLogLevel     = hclog.Info
	DefaultPrefix       = "consul-vip"
	DefaultService      = "consul-vip"
	DefaultSessionTTL   = 30 * time.Second
	DefaultCheckTTL     = 3 * time.Second
	DefaultPriority     = 100
	DefaultOnConflict   = ConflictExit
	DefaultOnLoss       = LossExit
	DefaultTakeover     = TakeoverProbe
	DefaultPreemptDelay = 10 * time.Second
	DefaultDeadMan      = 5 * time.Second
	DefaultInterval     = 10 * time.Second
)

// Config is a whole configuration: every file of it, checked and completed.
type Config struct {
	// LogLevel is one of trace, debug, info, warn and error.
	LogLevel hclog.Level
	// LogJSON logs one JSON object per line instead of text.
	LogJSON bool
	// NodeName identifies this instance among the contenders. Empty: the node
	// name of the local Consul agent.
	NodeName string
	Consul   Consul
	// VIPs are the floating addresses, at least one, in order of appearance.
	// No address appears twice.
	VIPs []VIP
}

// Consul says how to reach the local Consul agent and what to keep there.
type Consul struct {
	// Address is the agent's, as CONSUL_HTTP_ADDR spells it: host:port, or an
	// http, https or unix URL. Empty: CONSUL_HTTP_ADDR.
	Address string
	// TokenFile names the file that holds the ACL token. Empty:
	// CONSUL_HTTP_TOKEN and CONSUL_HTTP_TOKEN_FILE.
	TokenFile string
	// Prefix is the KV prefix of all keys, without a slash at either end.
	Prefix string
	// Service is the name under which instances register with Consul.
	Service string
	// SessionTTL is the session's time to live, 10s to 24h.
	SessionTTL time.Duration
	// CheckTTL is the time to live of the service's check, 2s to 1m; 0: no check.
	CheckTTL time.Duration
}

// VIP is one floating address.
type VIP struct {
	// Prefix is the address, not masked, with its prefix length; /32 unless
	// the configuration says otherwise.
	Prefix netip.Prefix
	// Interface names the network interface. Empty: the one whose subnet
	// contains the address.
	Interface string
	// Priority orders the contenders, 0 to 1000, the lower one preferred.
	Priority   int
	OnConflict OnConflict
	OnLoss     OnLoss
	Takeover   Takeover
	// PreemptDelay is for how long a better placed node must have been there
	// before it is handed the address, 1s to 1h; 0: a running owner stays.
	PreemptDelay time.Duration
	// DeadMan is the lifetime with which the kernel holds the address, in
	// whole seconds, at least 2s and less than SessionTTL minus a second.
	DeadMan  time.Duration
	Announce Announce
}

// Addr is the floating address itself.
func (v VIP) Addr() netip.Addr { return v.Prefix.Addr() }

// Announce is the rhythm of a held address's announcements.
type Announce struct {
	// Interval is the time between two, 1s to 1h.
	Interval time.Duration
	// Jitter is the most by which one is early or late, less than Interval. A
	// tenth of Interval unless the configuration says otherwise.
	Jitter time.Duration
}

// OnConflict is what to do when another host claims a held address.
type OnConflict string

// In all cases but the last two the address is unbound and the lock released first.
const (
	ConflictExit   OnConflict = "exit"   // exit with status 5
	ConflictQuit   OnConflict = "quit"   // exit with status 0, so that a supervisor leaves it at that
	ConflictDefend OnConflict = "defend" // announce the address again if the lock is still ours, else exit
	ConflictLog    OnConflict = "log"    // say so and carry on
)

// OnLoss is what to do when the lock of an address is lost but the session is not.
type OnLoss string

// In both cases the address is unbound first.
const (
	LossExit    OnLoss = "exit"    // exit with status 4
	LossContend OnLoss = "contend" // contend for the lock again
)

// Takeover is how much an instance makes sure that the last owner is gone.
type Takeover string

// Both ask the wire who has the address before they bind it.
const (
	TakeoverProbe  Takeover = "probe"  // a silent wire is enough
	TakeoverStrict Takeover = "strict" // the last owner's session TTL must have passed as well
)
