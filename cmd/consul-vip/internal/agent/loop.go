package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/health"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/lease/consul"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

// keeper holds locks as a member of the cluster: *lease.Keeper.
type keeper interface {
	locks
	Run(ctx context.Context) error
	Prioritize(delta int) (offset int)
	Leave()
	// Describe says what the other members read about this host.
	Describe(owner leasestate.Owner)
	// InLine is how many others would take a lock from its holder rather than this
	// process, or false if it is no candidate.
	InLine(s *leasestate.State, name string) (position int, ok bool)
	// Contact is what is known of Consul and the session.
	Contact() lease.Contact
}

// host is this machine: *netif.Host, adapted by hostKernel.
type host interface {
	kernel
	Find(addr netip.Addr, name string) (*net.Interface, error)
	Clear(addrs []netip.Addr) ([]netip.Prefix, error)
	Watch(ctx context.Context, events chan<- netif.Event) error
	Identity(ifindex int) (netif.Identity, error)
	Router(name string) bool
}

// agent runs the VIPs and what they depend on.
type agent struct {
	// Set by newAgent, never changed.
	log    hclog.Logger
	host   host
	open   func(*net.Interface) segment
	keeper keeper
	hooks  hookRunner
	owner  Owner // the part that all locks share
	turns  *turns

	// Owned by the goroutine of run.
	cfg     *config.Config            // as applied
	slots   map[netip.Addr]*slot      // one per address that runs
	links   map[int]*link             // by interface index
	reports map[int]netif.LinkChanged // the latest event of each interface
	checks  hostChecks
	// services are the checks of services that run, by name.
	services        map[string]*serviceCheck
	servicesChanged latest.Wake         // set by each check's goroutine after its state has changed
	consulServices  health.Services     // may be nil
	servicesACL     *consul.ACLChecker  // of the token for consulServices; may be nil
	servicesNeed    []consul.Permission // what servicesACL looks for

	// measured ends the measurements of losses that run.
	measured map[lossKey]context.CancelFunc

	debounce <-chan time.Time // fires when a link has been down for too long; may be nil

	// The background goroutines. backgroundCtx ends after the last VIP.
	background    sync.WaitGroup
	backgroundCtx context.Context

	local local // what others read of this process

	failed chan error // the failure of a background goroutine
	ended  chan end   // the end of a VIP
}

// slot is an address's place in the loop: the VIP that runs, and what replaces it.
type slot struct {
	vip    *vip
	stop   context.CancelCauseFunc
	ending bool       // end was called
	next   *placement // starts when vip has ended; may be nil
}

// end tells the VIP to end.
func (s *slot) end(reason error) {
	s.ending = true
	s.stop(reason)
}

// placement is a VIP's configuration and the link it belongs on.
type placement struct {
	cfg     config.VIP
	link    *link
	foreign error // another program has bound the address; may be nil
}

// end is the end of a VIP.
type end struct {
	addr netip.Addr
	err  error
}

func newAgent(h host, open func(*net.Interface) segment, k keeper, owner Owner, log hclog.Logger) *agent {
	return &agent{
		log:      log,
		host:     h,
		open:     open,
		keeper:   k,
		owner:    owner,
		turns:    newTurns(),
		cfg:      &config.Config{},
		slots:    map[netip.Addr]*slot{},
		links:    map[int]*link{},
		reports:  map[int]netif.LinkChanged{},
		checks:   newHostChecks(),
		measured: map[lossKey]context.CancelFunc{},
		services: map[string]*serviceCheck{},

		servicesChanged: latest.NewWake(),
		local:           newLocal(),
		failed:          make(chan error),
		ended:           make(chan end),
	}
}

// run runs the configured VIPs until ctx ends or one of them fails. The background
// goroutines end only after the last VIP, which needs them to release its address.
// It returns why it ended.
func (a *agent) run(ctx context.Context, o Options) error {
	backgroundCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.backgroundCtx = backgroundCtx
	defer func() {
		stop()
		a.background.Wait()
	}()

	empty := *o.Config
	empty.VIPs = nil
	a.cfg = &empty
	p := newPlan(a.cfg, o.Config)
	found, err := a.prepare(p)
	if err != nil {
		return err
	}
	if n := len(found.foreign); n > 0 && n == len(p.added) {
		return fmt.Errorf("no address can be served: %w", found.foreign[p.added[0].Addr()])
	}
	a.runInBackground(backgroundCtx, a.keeper.Run)
	a.runInBackground(backgroundCtx, a.hooks.Run)
	if a.servicesACL != nil {
		a.runInBackground(backgroundCtx, a.servicesACL.Run)
	}
	events := make(chan netif.Event)
	a.runInBackground(backgroundCtx, func(ctx context.Context) error { return a.host.Watch(ctx, events) })
	a.runInBackground(backgroundCtx, func(ctx context.Context) error { a.serveLocal(ctx, o); return nil })
	a.apply(p, found)
	logWorstCases(a.log, a.cfg)

	return a.loop(ctx, o, events)
}

// loop handles events, reloads and priority steps until ctx ends or something
// fails. Then it ends all VIPs, and returns the first reason after the last VIP
// has ended.
func (a *agent) loop(ctx context.Context, o Options, events <-chan netif.Event) (reason error) {
	stopped, reload, priority := ctx.Done(), o.Reload, o.Priority
	_, keysChanged := a.keeper.State()
	for reason == nil || len(a.slots) > 0 {
		var err error
		select {
		case <-stopped:
			err = context.Cause(ctx)
		case err = <-a.failed:
		case e := <-a.ended:
			err = a.onEnded(e)
		case e := <-events:
			a.dispatch(e)
		case <-a.debounce:
			a.debounceLinks()
		case <-keysChanged:
			_, keysChanged = a.keeper.State()
			a.checks.updateSoon(lineDebounce)
		case <-a.checks.due:
			a.updateHostChecks()
			a.updateMeasured()
		case <-a.checks.changed:
			a.onHostStates()
		case <-a.servicesChanged:
			a.onServiceStates()
		case to := <-a.local.asked:
			to <- a.inspect()
		case cfg := <-reload:
			a.reload(cfg)
		case delta := <-priority:
			a.keeper.Prioritize(delta)
		}
		if err != nil && reason == nil {
			reason = err
			stopped, reload, priority = nil, nil, nil
			a.endAll(err)
		}
	}
	return reason
}

// runInBackground starts a goroutine that VIPs depend on. run ends with ctx, whose
// parent is backgroundCtx; an error before that is a failure of the agent.
func (a *agent) runInBackground(ctx context.Context, run func(context.Context) error) {
	a.background.Go(func() {
		err := run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		select {
		case a.failed <- err:
		case <-a.backgroundCtx.Done(): // the loop has returned
		}
	})
}

// start runs a VIP whose address has no slot. Its goroutine ends by reporting to
// the loop, which does not return before it has received every report.
func (a *agent) start(p placement) {
	v := newVIP(p.cfg, p.link, p.foreign, shared{a.host, a.keeper, a.hooks, a.turns, a.owner, a.cfg.Consul.SessionTTL, a.log})
	ctx, stop := context.WithCancelCause(a.backgroundCtx)
	v.require(a.serviceFitness(p.cfg.Require))
	v.present.history = &a.local.history
	a.slots[p.cfg.Addr()] = &slot{vip: v, stop: stop}
	go func() { a.ended <- end{p.cfg.Addr(), v.run(ctx)} }()
}

// endAll ends the VIPs. Leave comes first, so that no other member transfers a
// lock to this one any more.
func (a *agent) endAll(reason error) {
	a.keeper.Leave()
	for addr := range a.slots {
		a.end(addr, reason)
	}
}

// end ends the VIP of an address and starts nothing in its place.
func (a *agent) end(addr netip.Addr, reason error) {
	s := a.slots[addr]
	s.next = nil
	s.end(reason)
}

// onEnded clears the slot of a VIP that has ended and starts what replaces it. It
// returns the VIP's error if nobody had told it to end.
func (a *agent) onEnded(e end) error {
	s := a.slots[e.addr]
	s.stop(nil)
	s.vip.close()
	delete(a.slots, e.addr)
	if s.next != nil {
		a.start(*s.next)
	}
	if l := s.vip.link; l != nil {
		a.closeIfUnused(l)
	}
	if s.ending {
		return nil
	}
	return e.err
}

// dispatch passes an event of the kernel to the links and VIPs it concerns.
func (a *agent) dispatch(e netif.Event) {
	switch e := e.(type) {
	case netif.LinkChanged:
		a.onLinkReport(e)
	case netif.IdentityChanged:
		a.onIdentityChanged(e.Index)
	case netif.AddressRemoved:
		if s, ok := a.slots[e.Addr]; ok && s.vip.link != nil {
			s.vip.onRemoved(e.Index)
		}
	case netif.AddressForeign:
		if s, ok := a.slots[e.Addr]; ok && s.vip.link != nil {
			s.vip.onForeign()
		}
	case netif.Resync:
		for _, s := range a.slots {
			if l := s.vip.link; l != nil {
				s.vip.onRemoved(l.index)
			}
		}
	}
}

// onRemoved notes that the kernel has removed the address from an interface. Only
// the loop calls it.
func (v *vip) onRemoved(ifindex int) {
	if v.link.index == ifindex {
		v.missing.Set()
	}
	if v.fitness.isForeign() {
		v.recheckForeign()
	}
}

// onForeign notes that another program has bound the address. An active VIP looks
// for itself, and one that is about to bind the address finds out. Only the loop
// calls it.
func (v *vip) onForeign() {
	v.taken.Set()
	if v.state.get() == stateStandby {
		v.recheckForeign()
	}
}
