// Package config reads the configuration of consul-vip: HCL files and environment
// variables in, checked values out. A [Config] needs no further checks. An [Error] explains
// all problems of a configuration at once, each with its file, line and column, the line
// itself, or with its variable, and a correction where there is one.
//
// All functions may be called by several goroutines at the same time. The package
// keeps no state, so a Config belongs to its caller.
package config

import (
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Defaults of the keys that a configuration leaves out.
const (
	DefaultLogLevel     = hclog.Info
	DefaultPrefix       = "consul-vip"
	DefaultService      = "consul-vip"
	DefaultSessionTTL   = 30 * time.Second
	DefaultCheckTTL     = 5 * time.Second
	DefaultPriority     = 100
	DefaultOnConflict   = ConflictExit
	DefaultOnLoss       = LossExit
	DefaultTakeover     = TakeoverProbe
	DefaultPreemptDelay = 10 * time.Second
	DefaultDeadMan      = 7 * time.Second
	DefaultInterval     = 10 * time.Second
	DefaultSocket       = "/run/consul-vip/agent.sock"

	DefaultHostCheckInterval = 25 * time.Millisecond
	DefaultHostCheckMisses   = 8
)

// Config is a complete configuration, merged from all its files and checked. Keys
// that are left out have their defaults.
type Config struct {
	// LogLevel is one of trace, debug, info, warn and error.
	LogLevel hclog.Level
	// LogJSON selects one JSON object per log line instead of text.
	LogJSON bool
	// NodeName identifies this instance among the members. Empty: the node name of
	// the local Consul agent.
	NodeName string
	// Socket is the absolute path of the socket at which the instance tells its status.
	// Empty: there is none. With DefaultSocket there is none either if the directory does
	// not exist.
	Socket string
	Consul Consul
	// HostCheck is what a VIP has if its block does not say otherwise.
	HostCheck HostCheck
	// Checks are the checks of services, each with another name.
	Checks []Check
	// Hooks are the programs to run on events, each with another name.
	Hooks []Hook
	// VIPs are the floating addresses, at least one, in order of appearance. Each
	// address appears once.
	VIPs []VIP
}

// Consul describes how to reach the local Consul agent and which names to use there.
type Consul struct {
	// Address is the address of the agent, in the format of CONSUL_HTTP_ADDR:
	// host:port, or an http, https or unix URL. Empty: CONSUL_HTTP_ADDR.
	Address string
	// TokenFile is the name of the file with the ACL token. Empty: CONSUL_HTTP_TOKEN
	// and CONSUL_HTTP_TOKEN_FILE.
	TokenFile string
	// Prefix is the KV prefix of all keys, without a slash at either end.
	Prefix string
	// Service is the name under which instances register with Consul.
	Service string
	// SessionTTL is the TTL of the session, 10s to 24h.
	SessionTTL time.Duration
	// CheckTTL is the TTL of the service's check, 2s to 1m; 0: no check.
	CheckTTL time.Duration
}

// VIP is one floating address.
type VIP struct {
	// Prefix is the address with its prefix length, not masked. The default length
	// is /32.
	Prefix netip.Prefix
	// Unbound: only the lock is held, and hooks do the rest. Nothing is bound or sent on
	// the network, so that Interface is empty and there is no host check.
	Unbound bool
	// Interface is the name of the network interface. Empty: the interface whose
	// subnet contains the address.
	Interface string
	// Priority orders the members, 0 to 1000. The lowest is preferred.
	Priority   int
	OnConflict OnConflict
	OnLoss     OnLoss
	Takeover   Takeover
	// PreemptDelay is how long a better placed member must have been there before
	// the owner transfers the address to it, 1s to 1h; 0: the owner keeps it.
	PreemptDelay time.Duration
	// DeadMan is the lifetime of the address in the kernel, in whole seconds, at least
	// 2s, at least CheckTTL plus 2s if there is a check, and less than SessionTTL minus
	// a second.
	DeadMan  time.Duration
	Announce Announce
	// Require are the names of the checks that must be fit here.
	Require []string
	// WhenNoneFit is what becomes of the address if no member is fit.
	WhenNoneFit WhenNoneFit
	// HostCheck is always off (Misses is 0) if Takeover is TakeoverStrict.
	HostCheck HostCheck
}

// Addr returns the address without its prefix length.
func (v VIP) Addr() netip.Addr { return v.Prefix.Addr() }

// Announce is the schedule of announcements while an address is held.
type Announce struct {
	// Interval is the time between two announcements, 1s to 1h.
	Interval time.Duration
	// Jitter is how much earlier or later than Interval an announcement may be, less
	// than Interval. The default is a tenth of Interval.
	Jitter time.Duration
}

// HostCheck is how a host that may take an address over watches the owner's host.
type HostCheck struct {
	// Interval is the time between two probes, 5ms to 1s.
	Interval time.Duration
	// Misses is how many probes in a row must stay unanswered before the host counts as
	// dead, 3 to 100; 0: there is no host check.
	Misses int
}

// OnConflict selects the reaction when another host claims a held address.
type OnConflict string

// ConflictExit, ConflictQuit and ConflictContend unbind the address and release the
// lock first, and so does ConflictDefend if it exits. None exits for a host that has
// claimed the address in the ten minutes before.
const (
	ConflictExit    OnConflict = "exit"    // exit with status 5
	ConflictQuit    OnConflict = "quit"    // exit with status 0, so that a supervisor does not restart the agent
	ConflictContend OnConflict = "contend" // contend for the lock again
	ConflictDefend  OnConflict = "defend"  // announce the address again if the lock is still ours, else exit
	ConflictLog     OnConflict = "log"     // log it and continue
)

// OnLoss selects the reaction when the lock of an address is lost but the session is
// not.
type OnLoss string

// Both unbind the address first.
const (
	LossExit    OnLoss = "exit"    // exit with status 4
	LossContend OnLoss = "contend" // contend for the lock again
)

// Takeover selects how an instance makes sure that the previous owner has unbound
// the address.
type Takeover string

// Both probe the network for the address before they bind it.
const (
	TakeoverProbe  Takeover = "probe"  // bind as soon as no station answers
	TakeoverStrict Takeover = "strict" // also wait for the previous owner's session TTL
)
