// Package lab builds the small network that consul-vip is made for, on one machine
// and from network namespaces alone: hosts on one Ethernet segment, each with a real
// Consul agent; a client that sends an echo request to a floating address every
// millisecond; an observer that asks all the time which host has it; and the means
// to cause faults: forged ARP frames, firewalls, killed and frozen processes.
//
// [Start] builds all of it, [Lab.Close] ends it. The package does not import package
// testing, because the demonstration, the benchmark and chaos use it too. All that a
// lab starts ends with the lab's process, even if that process is killed.
package lab

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

const (
	// ObserveInterval is the time between two questions of an observer about the
	// same address, unless a caller needs another.
	ObserveInterval = 10 * time.Millisecond

	// startTimeout is how long Consul may take until it is ready.
	startTimeout = 2 * time.Minute
)

// Config says what Start builds.
type Config struct {
	// Programs are the binaries to run, as Prepare returns them.
	Programs Programs
	// Dir is the directory for configurations, Consul's data and logs. If it is
	// empty, Start makes a temporary one and Close removes it.
	Dir string
	// Cluster says how Consul is set up.
	Cluster ClusterConfig
	// Observe names the addresses that Lab.Wire asks for. If there are none, no
	// observer runs.
	Observe []netip.Addr
}

// Lab is a network with everything that runs in it. Create it with [Start]; its
// methods are safe for concurrent use.
type Lab struct {
	Programs
	Hosts
	Cluster *Cluster
	Wire    *Observer // of Config.Observe; nil if no address was named

	segment *segment
}

// Start builds a lab and returns it when Consul is ready. The error is a
// [fs.ErrPermission] if the process may not make network namespaces; see [Enter].
func Start(ctx context.Context, c Config) (_ *Lab, err error) {
	l := &Lab{Programs: c.Programs}
	if l.segment, err = newSegment(c.Dir, c.Cluster); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.Hosts, err = l.segment.addHosts(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("consul was not ready in time"))
	defer cancel()
	if l.Cluster, err = startCluster(ctx, c.Programs.Consul, c.Cluster, l.Hosts); err != nil {
		return nil, err
	}
	if len(c.Observe) > 0 {
		l.Wire, err = l.Observer.NewObserver(ObserveInterval, c.Observe...)
	}
	return l, err
}

// Close kills every process that still runs in the lab and removes the network.
func (l *Lab) Close() error {
	if l.Wire != nil {
		l.Wire.Stop()
	}
	return l.segment.close()
}
