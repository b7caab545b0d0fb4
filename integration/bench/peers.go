package main

import (
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// peer is one of the programs that are compared, in one configuration.
type peer interface {
	// name is what the tables call it.
	name() string
	// needsConsul says if a failure of Consul can concern it.
	needsConsul() bool
	// killsAll says what SIGKILL hits: all its processes on the host, or the
	// daemon alone.
	killsAll() bool
	// oldKeepsAnswering says if after SIGKILL or SIGSTOP it takes most of a
	// minute until another host takes over.
	oldKeepsAnswering() bool
	// elects says if the rank decides who is the owner, so that all hosts may
	// start at once. Otherwise it's the host that starts first.
	elects() bool
	// command returns how to run it on a host, and writes its configuration.
	// The rank is 0 on the host that is to own the address, then 1 and 2.
	command(e *entry, h *lab.Host, rank int) (lab.Command, error)
	// ready objects while a daemon isn't in the state that it should have
	// before the failure.
	ready(e *entry, p *lab.Process, rank int) error
}

// peers returns all of them in the order of the tables.
func peers() []peer {
	return []peer{
		consulVIP{},
		keepalived{advert: time.Second},
		keepalived{advert: 100 * time.Millisecond},
		keepalived{advert: 10 * time.Millisecond},
		consulLock{},
	}
}
