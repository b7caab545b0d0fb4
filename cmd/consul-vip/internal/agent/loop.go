package agent

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// keeper holds locks as a member of the cluster: lease.Keeper.
type keeper interface {
	locks
	Run(ctx context.Context) error
	Prioritize(delta int) (offset int)
	Leave()
}

// host is this machine: netif.Host.
type host interface {
	kernel
	Find(addr netip.Addr, name string) (*net.Interface, error)
	Clear(addrs []netip.Addr) ([]netip.Prefix, error)
	Watch(ctx context.Context, events chan<- netif.Event) error
}

// agent runs the VIPs and what they stand on. All it knows belongs to the
// goroutine that runs it; the others tell it by its channels.
type agent struct {
	log    hclog.Logger
	host   host
	open   func(*net.Interface) (segment, error)
	keeper keeper
	owner  lease.Owner // what this process knows of itself

	cfg     *config.Config            // as it is applied
	slots   map[netip.Addr]*slot      // of the VIPs
	links   map[int]*link             // by interface index
	reports map[int]netif.LinkChanged // what the kernel last said of each interface

	background    sync.WaitGroup  // what the VIPs stand on
	backgroundCtx context.Context // of that, and so ends after the last VIP
	failed        chan error      // says what of it failed
	ended         chan end        // says which VIP has ended
}

// slot is what becomes of one address: the VIP that runs, and what comes after
// it.
type slot struct {
	vip    *vip
	stop   context.CancelCauseFunc
	ending bool // it was told to
	next   *placement
}

func (p *slot) end(why error) {
	p.ending = true
	p.stop(why)
}

// placement is a VIP's configuration, and the link that it belongs on.
type placement struct {
	cfg  config.VIP
	link *link
}

// end is the end of a VIP.
type end struct {
	addr netip.Addr
	err  error
}

func newAgent(h host, open func(*net.Interface) (segment, error), k keeper, owner lease.Owner, log hclog.Logger) *agent {
	return &agent{
		log:     log,
		host:    h,
		open:    open,
		keeper:  k,
		owner:   owner,
		cfg:     &config.Config{},
		slots:   map[netip.Addr]*slot{},
		links:   map[int]*link{},
		reports: map[int]netif.LinkChanged{},
		failed:  make(chan error),
		ended:   make(chan end),
	}
}

// run runs the VIPs of the configuration until ctx ends or one of them fails, and
// beneath them what they stand on, which ends only after the last of them: a VIP
// takes its leave on the wire, in the kernel and in Consul. It returns why it
// ended.
func (a *agent) run(ctx context.Context, o Options) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.backgroundCtx = base
	defer func() {
		stop()
		a.background.Wait()
	}()

	none := *o.Config
	none.VIPs = nil
	a.cfg = &none
	first := decide(a.cfg, o.Config)
	links, err := a.prepare(first)
	if err != nil {
		return err
	}
	a.runInBackground(base, a.keeper.Run)
	events := make(chan netif.Event)
	a.runInBackground(base, func(ctx context.Context) error { return a.host.Watch(ctx, events) })
	a.apply(first, links)
	logWorstCases(a.log, a.cfg)

	return a.loop(ctx, o, events)
}

// loop does what the agent is told and heeds what happens to it, until ctx ends
// or anything fails, which ends all. It returns the first failure after the last
// VIP has ended.
func (a *agent) loop(ctx context.Context, o Options, events <-chan netif.Event) (reason error) {
	stopped, reload, priority := ctx.Done(), o.Reload, o.Priority
	for reason == nil || len(a.slots) > 0 {
		var why error
		select {
		case <-stopped:
			why = context.Cause(ctx)
		case why = <-a.failed:
		case e := <-a.ended:
			why = a.onEnded(e)
		case e := <-events:
			a.dispatch(e)
		case cfg := <-reload:
			a.reload(cfg)
		case delta := <-priority:
			a.keeper.Prioritize(delta)
		}
		if why != nil && reason == nil {
			reason = why
			stopped, reload, priority = nil, nil, nil
			a.endAll(why)
		}
	}
	return reason
}

// runInBackground runs something that the VIPs stand on until ctx ends. That it ends
// before is a failure.
func (a *agent) runInBackground(ctx context.Context, run func(context.Context) error) {
	a.background.Go(func() {
		err := run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		select {
		case a.failed <- err:
		case <-a.backgroundCtx.Done(): // nobody listens any more
		}
	})
}

// endAll ends the VIPs. First of all nobody is to hand us anything any more.
func (a *agent) endAll(why error) {
	a.keeper.Leave()
	for addr := range a.slots {
		a.end(addr, why)
	}
}

// end ends the VIP of an address, and nothing comes after it.
func (a *agent) end(addr netip.Addr, why error) {
	p := a.slots[addr]
	p.next = nil
	p.end(why)
}

// start runs a VIP, whose address has no slot.
func (a *agent) start(p placement) {
	v := newVIP(p.cfg, p.link, p.link.wire, a.host, a.log)
	v.locks, v.owner = a.keeper, a.owner
	ctx, stop := context.WithCancelCause(a.backgroundCtx)
	a.slots[p.cfg.Addr()] = &slot{vip: v, stop: stop}
	go func() { a.ended <- end{p.cfg.Addr(), v.run(ctx)} }()
}

// onEnded clears the post of a VIP that has ended, or gives it to what comes
// after. It returns the VIP's error, if it was not told to end.
func (a *agent) onEnded(e end) error {
	p := a.slots[e.addr]
	p.stop(nil)
	delete(a.slots, e.addr)
	if p.next != nil {
		a.start(*p.next)
	}
	a.closeUnusedLinks()
	if p.ending {
		return nil
	}
	return e.err
}

// dispatch passes a word of the kernel on to those it concerns.
func (a *agent) dispatch(e netif.Event) {
	switch e := e.(type) {
	case netif.LinkChanged:
		a.reports[e.Index] = e
		if e.Removed {
			delete(a.reports, e.Index)
		}
		if l, ok := a.links[e.Index]; ok && l.update(e) {
			a.renewLocks(l)
		}
	case netif.AddressRemoved:
		if p, ok := a.slots[e.Addr]; ok && p.vip.link.index == e.Index {
			p.vip.missing.Set()
		}
	case netif.AddressForeign:
		if p, ok := a.slots[e.Addr]; ok {
			p.vip.taken.Set()
		}
	case netif.Resync:
		for _, p := range a.slots {
			p.vip.missing.Set()
		}
	}
}

// renewLocks has the next record of every lock on l name its new MAC: the
// successor of a handover goes by it.
func (a *agent) renewLocks(l *link) {
	for _, p := range a.slots {
		if p.vip.link == l {
			p.vip.renew()
		}
	}
}
