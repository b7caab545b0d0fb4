// Package agent is the process: it assembles the configuration, the locks in
// Consul, the wire and the kernel, and runs every VIP until it is told to stop
// or one of them has to end it.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

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
	Logger       hclog.Logger
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
	instance, err := claimInstance(o.Config.Consul)
	if err != nil {
		return err
	}
	defer instance.Close()

	host, err := netif.Open(o.Logger.Named("netif"))
	if err != nil {
		return err
	}
	defer host.Close()
	if err := clearLeftovers(host, o); err != nil {
		return err
	}
	a, err := assemble(host, o)
	if err != nil {
		return err
	}
	defer a.close()
	logWorstCases(o.Logger, o.Config)

	var conflict *ConflictError
	err = a.run(ctx)
	if errors.As(err, &conflict) && conflict.Quit {
		return nil
	}
	return err
}

// clearLeftovers removes what a dead predecessor left bound. That no live one
// is meant, the instance lock has made sure of.
func clearLeftovers(host *netif.Host, o Options) error {
	addrs := make([]netip.Addr, len(o.Config.VIPs))
	for i, v := range o.Config.VIPs {
		addrs[i] = v.Addr()
	}
	cleared, err := host.Clear(addrs)
	for _, p := range cleared {
		o.Logger.Warn("removed an address that a predecessor left behind", "vip", p.Addr())
	}
	if err != nil {
		return fmt.Errorf("clearing leftovers: %w", err)
	}
	return nil
}

// agent is the assembled process.
type agent struct {
	log    hclog.Logger
	host   *netif.Host
	keeper *lease.Keeper
	links  map[int]*link // by interface index
	vips   []*vip
	byAddr map[netip.Addr]*vip
}

func assemble(host *netif.Host, o Options) (*agent, error) {
	a := &agent{log: o.Logger, host: host, links: map[int]*link{}, byAddr: map[netip.Addr]*vip{}}
	for _, v := range o.Config.VIPs {
		l, err := a.link(v)
		if err != nil {
			a.close()
			return nil, err
		}
		vip := newVIP(v, l, linkWire{l.wire}, hostKernel{host}, o.Logger)
		a.vips = append(a.vips, vip)
		a.byAddr[v.Addr()] = vip
	}
	c := o.Config.Consul
	a.keeper = lease.New(lease.Config{
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
	for _, v := range a.vips {
		v.locks = a.keeper
		v.owner = lease.Owner{AllocID: os.Getenv("NOMAD_ALLOC_ID"), Job: os.Getenv("NOMAD_JOB_NAME")}
	}
	return a, nil
}

// link returns the link that v belongs on, opened once for all its VIPs.
func (a *agent) link(v config.VIP) (*link, error) {
	ifi, err := a.host.Find(v.Addr(), v.Interface)
	if err != nil {
		return nil, fmt.Errorf("vip %s: %w", v.Addr(), err)
	}
	if l, ok := a.links[ifi.Index]; ok {
		return l, nil
	}
	wire, err := announcer.Open(ifi, announcer.Options{
		Own:    a.host.Own,
		Logger: a.log.Named("announcer").With("interface", ifi.Name),
	})
	if err != nil {
		return nil, fmt.Errorf("vip %s: %w", v.Addr(), err)
	}
	l := newLink(ifi, wire)
	a.links[ifi.Index] = l
	return l, nil
}

func (a *agent) close() {
	for _, l := range a.links {
		_ = l.wire.Close()
	}
}

// run runs the VIPs, and beneath them what they stand on, which ends only
// after the last of them: a VIP takes its leave on the wire, in the kernel and
// in Consul. The first to fail ends all.
func (a *agent) run(ctx context.Context) error {
	running, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	fail := func(err error) {
		a.keeper.Leave() // first of all, so that nobody hands us anything any more
		cancel(err)
	}
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { fail(context.Cause(ctx)) })()
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()

	var below errgroup.Group
	under := func(run func(context.Context) error) {
		below.Go(func() error {
			err := run(base)
			if err != nil {
				fail(err)
			}
			return err
		})
	}
	under(a.keeper.Run)
	under(a.watchHost)
	for _, l := range a.links {
		under(l.wire.Run)
	}

	var vips errgroup.Group
	for _, v := range a.vips {
		vips.Go(func() error {
			err := v.run(running)
			if err != nil {
				fail(err)
			}
			return err
		})
	}
	vipsErr := vips.Wait()
	stopBase()
	belowErr := below.Wait()
	if ctx.Err() != nil {
		a.log.Info("stopped", "reason", context.Cause(ctx))
		return nil
	}
	if vipsErr == nil && belowErr == nil {
		return nil
	}
	return context.Cause(running) // the first failure, not the last
}

// watchHost passes the kernel's events on to those they concern.
func (a *agent) watchHost(ctx context.Context) error {
	events := make(chan netif.Event)
	var g errgroup.Group
	g.Go(func() error {
		defer close(events)
		return a.host.Watch(ctx, events)
	})
	for e := range events {
		a.dispatch(e)
	}
	return g.Wait()
}

func (a *agent) dispatch(e netif.Event) {
	switch e := e.(type) {
	case netif.LinkChanged:
		if l, ok := a.links[e.Index]; ok {
			l.update(e)
		}
	case netif.AddressRemoved:
		if v, ok := a.byAddr[e.Addr]; ok && v.link.index == e.Index {
			notify(v.missing)
		}
	case netif.AddressForeign:
		if v, ok := a.byAddr[e.Addr]; ok {
			notify(v.taken)
		}
	case netif.Resync:
		for _, v := range a.vips {
			notify(v.missing)
		}
	}
}
