// Package agent is the process: it connects the configuration, the locks in
// Consul, the network and the kernel, and runs every VIP until it is stopped or
// one VIP fails.
//
// # Files
//
// agent.go assembles the process. loop.go runs the VIPs, reload.go changes which
// ones run, link.go holds the interfaces they share. The life of one address is
// in vip.go and in one file per logged state: standby.go, takeover.go and bind.go
// (the state "acquired"), active.go and refresh.go, and release.go. conflict.go reacts
// to other stations. outcome.go says how a step ended, fitness.go why this host cannot
// serve an address, turns.go orders the writes to the kernel. local.go tells on this host
// what the process knows of itself, history.go keeps what has happened last.
//
// # Goroutines
//
// The goroutine that calls [Run] is the loop. It alone knows which VIPs run and on
// which links; all fields of the agent belong to it. The others reach it by
// channels: events of the kernel, failures, and ends of VIPs.
//
// The loop starts one goroutine per VIP, which ends when its context is cancelled
// or the VIP fails, and reports its end to the loop. The loop returns only after
// the last of them has reported. It reaches a running VIP in four ways, none of
// which blocks for long: it cancels the VIP's context, replaces its configuration
// (an atomic pointer), updates its lock, and sets one of its wakes.
//
// The loop also starts the background goroutines that VIPs depend on: the lease
// keeper, the watch of the kernel, and one wire per link. They end after the last
// VIP, because a VIP needs all of them to release its address, or, a wire, when no
// VIP uses its link any more. Run waits for them.
//
// A VIP's goroutine goes through all states of its address by itself, inside
// lease's Hold while the lock is held. It starts one goroutine, which announces
// the address from "active" on. It reads
// only what never changes or is atomic, and is joined before the address is unbound.
//
// A link's state is a latest.Latest: the loop sets it, the VIPs on it follow it.
package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/capability"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/command"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/health"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/hook"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/instance"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/localstatus"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/netif"
)

// Options configures [Run].
type Options struct {
	Config *config.Config
	Client *consul.Client // Run closes it
	// Services tells the health of services that are registered with the local agent. Nil:
	// no check may ask for it.
	Services health.Services
	// ServicesACL logs which permissions the token of Services lacks. May be nil.
	ServicesACL *consul.ACLChecker
	Version     string
	Logger      hclog.Logger // a reload sets its level

	// Reload delivers configurations that replace the running one. Priority
	// delivers steps to add to the priority of every VIP for as long as the
	// process runs. Either may be nil.
	Reload   <-chan *config.Config
	Priority <-chan int
}

// Run contends for every configured VIP until ctx ends, and then releases them
// all, within 4 s even if Consul does not answer. It returns nil if ctx has ended,
// or after a conflict with on_conflict = "quit". Other errors wrap
// lease.ErrLockLost, lease.ErrSessionLost, ErrAddressLost or ErrConflict, or say
// what failed. Call it once per process.
func Run(ctx context.Context, o Options) error {
	if err := capability.Check(capability.NetAdmin, capability.NetRaw); err != nil {
		return err
	}
	// With the same prefix two would destroy each other's session and remove each other's
	// addresses, as those of a previous process. With the same service they would refresh
	// each other's check.
	c := o.Config.Consul
	locked, err := instance.Lock(ctx, o.Logger, "prefix="+c.Prefix, "service="+c.Service)
	if err != nil {
		return err
	}
	defer locked.Close()

	host, err := netif.Open(netif.AgentTag, o.Logger.Named("netif"))
	if err != nil {
		return err
	}
	defer host.Close()
	return RunOn(ctx, o, Machine{Host: hostKernel{host}, OpenWire: announcer.Open, Listen: localstatus.Listen})
}

// Machine is the host that an agent runs on: this one for [Run], or a simulated one.
type Machine struct {
	Host Host
	// OpenWire opens the wire of an interface for a family.
	OpenWire func(*net.Interface, announcer.Family, announcer.Options) (*announcer.Wire, error)
	// Listen listens at the socket for `status -local`. Nil: nobody can ask.
	Listen func(ctx context.Context, path string) (net.Listener, error)
	// Program runs a hook's program. Nil: [command.Run].
	Program hook.Program
	// Now reads a clock that continues while the machine is suspended. Nil:
	// CLOCK_BOOTTIME.
	Now func() time.Duration
}

// Host is the interfaces and addresses of a machine: *netif.Host, adapted by
// hostKernel.
type Host = host

// Address is an address while it is bound.
type Address = bound

// RunOn is [Run] on any machine. It does not check the capabilities of the process,
// nor keep out a second instance.
func RunOn(ctx context.Context, o Options, m Machine) error {
	err := assemble(m, o).run(ctx, o)
	var conflict *ConflictError
	switch {
	case ctx.Err() != nil:
		o.Logger.Info("stopped", "reason", context.Cause(ctx))
		return nil
	case errors.As(err, &conflict) && conflict.Quit:
		return nil
	}
	return err
}

// assemble creates an agent and what it depends on. It starts nothing.
func assemble(m Machine, o Options) *agent {
	c := o.Config.Consul
	keeper := lease.New(lease.Config{
		Client:     o.Client,
		Prefix:     c.Prefix,
		Service:    c.Service,
		Node:       o.Config.NodeName,
		SessionTTL: c.SessionTTL,
		CheckTTL:   c.CheckTTL,
		Version:    o.Version,
		Logger:     o.Logger.Named("lease"),
		Now:        m.Now,
	})
	open := func(ifi *net.Interface) segment {
		return newWires(func(f announcer.Family) (*announcer.Wire, error) {
			return m.OpenWire(ifi, f, announcer.Options{
				Own:    m.Host.Own,
				Router: func() bool { return m.Host.Router(ifi.Name) },
				Logger: o.Logger.Named("announcer").With("interface", ifi.Name),
			})
		})
	}
	a := newAgent(m.Host, open, leaseKeeper{keeper}, processOwner(), o.Logger)
	program := m.Program
	if program == nil {
		program = command.Run
	}
	a.hooks = hook.New(o.Logger.Named("hook"), program)
	a.consulServices, a.servicesACL = o.Services, o.ServicesACL
	a.local.listen = m.Listen
	return a
}

// hostKernel makes a netif.Host a host: its Bind returns the interface.
type hostKernel struct{ *netif.Host }

func (k hostKernel) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error) {
	a, err := k.Host.Bind(ifindex, p, lifetime)
	if err != nil {
		return nil, err // not a nil *netif.Address in a bound
	}
	return a, nil
}
