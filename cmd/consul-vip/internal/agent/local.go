package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/localstatus"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// local is what the agent needs to tell its status on this host.
type local struct {
	listen  func(ctx context.Context, path string) (net.Listener, error) // nil: nobody can ask
	asked   chan chan<- inspection                                       // received by the loop
	history history
	started time.Time
}

func newLocal() local { return local{asked: make(chan chan<- inspection), started: time.Now()} }

// serveLocal answers `consul-vip status -local` until ctx ends. The agent works without it, so a
// failure is only logged.
func (a *agent) serveLocal(ctx context.Context, o Options) {
	path := o.Config.Socket
	if path == "" || a.local.listen == nil {
		return
	}
	log := a.log.With("socket", path)
	l, err := a.local.listen(ctx, path)
	switch {
	case err == nil:
		log.Info("answering status -local")
		err = localstatus.Serve(ctx, l, localstatus.Handler(statusOf{a, o.Version}), a.log.Named("localstatus"))
	case path == config.DefaultSocket && errors.Is(err, fs.ErrNotExist):
		log.Info("not answering status -local, the socket's directory does not exist")
		return
	}
	if err != nil {
		log.Warn("not answering status -local; the key socket of the configuration names another path, or none", "error", err)
	}
}

// statusOf is the source of the status of an agent of this version.
type statusOf struct {
	agent   *agent
	version string
}

// Status implements [localstatus.Source]. The loop only lists what it has; the rest is done
// by the caller, so that thousands of addresses do not delay the loop.
func (s statusOf) Status(ctx context.Context) (*localstatus.Status, error) {
	a := s.agent
	found, err := a.askLoop(ctx)
	if err != nil {
		return nil, err
	}
	found.sort()
	contact := a.keeper.Contact()
	keys, _ := a.keeper.State()
	status := &localstatus.Status{
		Node: cmp.Or(contact.Node, found.cfg.NodeName), Version: s.version, Prefix: found.cfg.Consul.Prefix,
		Started: a.local.started, Consul: consulStatus(contact),
		Addresses: []localstatus.Address{}, Checks: []localstatus.Check{},
		HostChecks: []localstatus.HostCheck{}, Transitions: []localstatus.Transition{},
	}
	for _, v := range found.vips {
		status.Addresses = append(status.Addresses, v.status(keys))
	}
	for _, c := range found.services {
		status.Checks = append(status.Checks, c.status())
	}
	for _, c := range found.hosts {
		status.HostChecks = append(status.HostChecks, c.status())
	}
	for _, t := range a.local.history.list() {
		status.Transitions = append(status.Transitions, localstatus.Transition{
			Time: t.at, VIP: t.vip, From: string(t.from), To: string(t.to), Reason: t.reason,
		})
	}
	return status, nil
}

// inspection is what the loop alone knows. Its lists are in no order.
type inspection struct {
	cfg      *config.Config
	vips     []*vip
	services []serviceInspection
	hosts    []hostInspection
}

type serviceInspection struct {
	check *serviceCheck
	since time.Time
}

type hostInspection struct {
	check *hostCheck
	addrs []netip.Addr
	since time.Time
}

// errLoopEnded means that the process is about to end.
var errLoopEnded = errors.New("the agent is ending")

// askLoop has the loop inspect the agent.
func (a *agent) askLoop(ctx context.Context) (inspection, error) {
	answer := make(chan inspection, 1)
	select {
	case a.local.asked <- answer:
		return <-answer, nil
	case <-ctx.Done():
		return inspection{}, fmt.Errorf("the agent is busy: %w", context.Cause(ctx))
	case <-a.backgroundCtx.Done():
		return inspection{}, errLoopEnded
	}
}

// inspect lists what runs. Only the loop calls it.
func (a *agent) inspect() inspection {
	found := inspection{cfg: a.cfg, vips: make([]*vip, 0, len(a.slots))}
	for _, s := range a.slots {
		found.vips = append(found.vips, s.vip)
	}
	for _, c := range a.services {
		found.services = append(found.services, serviceInspection{c, c.since})
	}
	for _, c := range a.checks.running {
		h := hostInspection{check: c, since: c.since}
		for addr := range c.owned {
			h.addrs = append(h.addrs, addr)
		}
		found.hosts = append(found.hosts, h)
	}
	return found
}

// sort orders the lists as people expect them.
func (i inspection) sort() {
	slices.SortFunc(i.vips, func(a, b *vip) int { return a.cfg().Addr().Compare(b.cfg().Addr()) })
	slices.SortFunc(i.services, func(a, b serviceInspection) int { return cmp.Compare(a.check.cfg.Name, b.check.cfg.Name) })
	slices.SortFunc(i.hosts, func(a, b hostInspection) int {
		return cmp.Or(cmp.Compare(a.check.key.node, b.check.key.node), a.check.key.addr.Compare(b.check.key.addr),
			cmp.Compare(a.check.link.name, b.check.link.name), cmp.Compare(a.check.key.check.Interval, b.check.key.check.Interval))
	})
	for _, h := range i.hosts {
		slices.SortFunc(h.addrs, netip.Addr.Compare)
	}
}

// sessionLetters is how much of a session's ID is told.
const sessionLetters = 8

func consulStatus(c lease.Contact) localstatus.Consul {
	s := localstatus.Consul{
		Answers:      !c.Answered.IsZero() && c.FailingSince.IsZero(),
		LastContact:  timeOf(c.Answered),
		FailingSince: timeOf(c.FailingSince),
		Error:        text(c.Err),
	}
	if c.Session != "" {
		s.Session, s.HoldLeft = c.Session[:min(sessionLetters, len(c.Session))], localstatus.Left(c.Left)
	}
	return s
}

// timeOf returns a time, or nil for the zero time.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// status is what this host knows of the address. Any goroutine may call it.
func (v *vip) status(keys *leasestate.State) localstatus.Address {
	cfg := v.cfg()
	s := localstatus.Address{
		VIP: cfg.Addr().String(), Require: cfg.Require, Lock: leasestate.StatusUnknown, Failing: text(v.failingNow()),
	}
	if v.link != nil {
		s.Interface = v.link.name
	}
	if last := v.present.last.Load(); last != nil {
		s.State, s.Since, s.Reason = string(last.to), &last.at, last.reason
	}
	if keys != nil {
		s.Lock, s.Owner = keys.Owner(s.VIP)
		s.Note = strings.Join(keys.Remarks(s.VIP), "; ")
	}
	if t := v.present.tenure.Load(); t != nil {
		s.HoldLeft = localstatus.Left(t.Remaining())
	}
	if a := v.present.active.Load(); a != nil && a.inKernel() {
		s.LifetimeLeft = localstatus.Left(time.Duration(a.until.Load()) - a.Now())
	}
	if left := v.fitness.backOffLeft(); left > 0 {
		s.BackoffLeft = localstatus.Left(left)
	}
	v.addFitness(&s, cfg)
	return s
}

// addFitness adds whether this host can serve the address, as the lock's contender knows it.
func (v *vip) addFitness(s *localstatus.Address, cfg *config.VIP) {
	unfit, unknown := v.fitness.required()
	switch {
	case len(cfg.Require) == 0:
	case unfit != nil:
		s.Fitness, s.Unfit = localstatus.NotFit, unfit.Error()
	case unknown != nil:
		s.Fitness = localstatus.FitnessUnknown
	default:
		s.Fitness = localstatus.Fit
	}
	why := v.ineligible()
	if why == nil && cfg.WhenNoneFit == config.NoneFitRelease {
		why = unfit
	}
	s.Eligible, s.Ineligible = why == nil, text(why)
}

func (i serviceInspection) status() localstatus.Check {
	state, _ := i.check.state.Get()
	return localstatus.Check{
		Name: i.check.cfg.Name, Fit: state.Fit, Known: state.Known, Flapping: state.Flapping, Reason: state.Reason, Since: i.since,
	}
}

func (i hostInspection) status() localstatus.HostCheck {
	c := i.check
	state, _ := c.state.Get()
	s := localstatus.HostCheck{
		Node: c.key.node, Host: c.key.addr.String(), Interface: c.link.name, Addresses: []string{},
		State: localstatus.HostAlive, Since: i.since, Missed: int(c.missed.Load()), Misses: c.key.check.Misses,
	}
	for _, addr := range i.addrs {
		s.Addresses = append(s.Addresses, addr.String())
	}
	switch {
	case state.Dead:
		s.State, s.Since = localstatus.HostDead, state.Since
	case state.Heard == 0:
		s.State = localstatus.HostUnknown
	}
	return s
}
