package main

import (
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// peer is one of the compared programs, in one configuration.
type peer interface {
	// name is the program's name in the tables.
	name() string
	// needsConsul reports whether a failure of Consul can affect it.
	needsConsul() bool
	// killsAll reports whether SIGKILL goes to all its processes on the host, and not
	// to the daemon alone.
	killsAll() bool
	// oldKeepsAnswering reports whether, after SIGKILL or SIGSTOP, it takes most of a
	// minute until another host takes over.
	oldKeepsAnswering() bool
	// elects reports whether the rank decides which host is the owner, so that all
	// hosts may start at once. Otherwise the host that starts first is the owner.
	elects() bool
	// command returns how to run it on a host, and writes its configuration. The rank
	// is 0 on the host that is to own the address, then 1 and 2.
	command(e *entry, h *lab.Host, rank int) (lab.Command, error)
	// ready returns an error unless the process is in the state that it must have
	// before the failure.
	ready(e *entry, p *lab.Process, rank int) error
	// lockKey is the key of the lock in Consul, if it needs Consul.
	lockKey(e *entry) string
}

// quickCheck is consul-vip with a host check that finds a dead host sooner. It is
// measured where a host fails.
var quickCheck = consulVIP{hostCheck: `interval = "10ms"  misses = 5`}

// overIPv6 is consul-vip with IPv6 addresses.
var overIPv6 = consulVIP{ipv6: true}

// variants are the configurations of consul-vip in the order of the tables.
var variants = []consulVIP{{}, quickCheck, overIPv6}

// peers returns all of them in the order of the tables.
func peers() []peer {
	return []peer{
		consulVIP{},
		quickCheck,
		overIPv6,
		keepalived{advert: time.Second},
		keepalived{advert: 100 * time.Millisecond},
		keepalived{advert: 10 * time.Millisecond},
		consulLock{},
	}
}
