// Package agent is the process: it assembles the configuration, the locks in
// Consul, the wire and the kernel, and runs every VIP until it is told to stop
// or one of them has to end it.
package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// Options is what an agent runs with.
type Options struct {
	Config *config.Config
	Client *api.Client // limited to lease.MaxConns connections
	// TokenChanged: see [lease.Config].
	TokenChanged <-chan struct{}
	Version      string
	Logger       hclog.Logger // its level follows the configuration

	// Reload takes configurations that are to replace the running one, Priority
	// what is to be added to the priority of every VIP for as long as the agent
	// runs. Either may be nil.
	Reload   <-chan *config.Config
	Priority <-chan int
}

// Run contends for every configured VIP until ctx ends, and then gives each
// back, within 4 s whatever Consul does. It returns nil when ctx has ended or a
// VIP quit over a conflict as configured. The other errors wrap
// lease.ErrLockLost, lease.ErrSessionLost, ErrAddressLost or ErrConflict, or are
// failures.
func Run(ctx context.Context, o Options) error {
	if err := checkCapabilities(); err != nil {
		return err
	}
	instance, err := lockInstance(o.Config.Consul)
	if err != nil {
		return err
	}
	defer instance.Close()

	host, err := netif.Open(o.Logger.Named("netif"))
	if err != nil {
		return err
	}
	defer host.Close()

	err = assemble(host, o).run(ctx, o)
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

// assemble gives an agent what it stands on. Nothing runs yet.
func assemble(h *netif.Host, o Options) *agent {
	c := o.Config.Consul
	keeper := lease.New(lease.Config{
		Client:       o.Client,
		Prefix:       c.Prefix,
		Service:      c.Service,
		Node:         o.Config.NodeName,
		SessionTTL:   c.SessionTTL,
		CheckTTL:     c.CheckTTL,
		TokenChanged: o.TokenChanged,
		Version:      o.Version,
		Logger:       o.Logger.Named("lease"),
	})
	open := func(ifi *net.Interface) (segment, error) {
		w, err := announcer.Open(ifi, announcer.Options{
			Own:    h.Own,
			Logger: o.Logger.Named("announcer").With("interface", ifi.Name),
		})
		if err != nil {
			return nil, err
		}
		return linkWire{w}, nil
	}
	owner := lease.Owner{AllocID: os.Getenv("NOMAD_ALLOC_ID"), Job: os.Getenv("NOMAD_JOB_NAME")}
	return newAgent(hostKernel{h}, open, keeper, owner, o.Logger)
}

type hostKernel struct{ *netif.Host }

func (k hostKernel) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error) {
	a, err := k.Host.Bind(ifindex, p, lifetime)
	if err != nil {
		return nil, err // not a nil *netif.Address in a bound
	}
	return a, nil
}

type linkWire struct{ *announcer.Wire }

func (w linkWire) Listen(addr netip.Addr) listener { return w.Wire.Listen(addr) }

func (w linkWire) Handover(addr netip.Addr) handover { return w.Wire.Handover(addr) }
