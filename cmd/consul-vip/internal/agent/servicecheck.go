package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/health"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease/consul"
)

// serviceCheck is a check of a service on this host.
type serviceCheck struct {
	// Set when it starts, never changed.
	cfg  config.Check
	stop context.CancelFunc

	state latest.Latest[health.State] // set by the check's goroutine

	// Owned by the loop.
	logged health.State
	since  time.Time // when it became what was logged last
}

// updateServiceChecks starts and ends checks as the configuration asks for, and has every
// address look at those that it requires. One that nothing requires does not run.
func (a *agent) updateServiceChecks() {
	wanted := map[string]config.Check{}
	for _, c := range a.cfg.Checks {
		required := func(v config.VIP) bool { return slices.Contains(v.Require, c.Name) }
		if slices.ContainsFunc(a.cfg.VIPs, required) {
			wanted[c.Name] = c
		}
	}
	for name, c := range a.services {
		if cfg, ok := wanted[name]; !ok || !reflect.DeepEqual(cfg, c.cfg) {
			c.stop()
			delete(a.services, name)
		}
	}
	for name, cfg := range wanted {
		if a.services[name] == nil {
			a.services[name] = a.startServiceCheck(cfg)
		}
	}
	a.needHealth(wanted)
	a.onServiceStates()
}

// needHealth has the ACL checker look for the permissions that checks need. Without one a
// check says nothing of its service, and this host takes none of the addresses.
func (a *agent) needHealth(checks map[string]config.Check) {
	var needed []consul.Permission
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		if service := checks[name].Service; service != "" {
			needed = append(needed, consul.Permission{Resource: "service", Access: "read", Segment: service})
		}
	}
	if a.servicesACL != nil && !slices.Equal(needed, a.servicesNeed) {
		a.servicesNeed = needed
		a.servicesACL.Check(needed)
	}
}

// startServiceCheck starts a check.
func (a *agent) startServiceCheck(cfg config.Check) *serviceCheck {
	ctx, stop := context.WithCancel(a.backgroundCtx)
	c := &serviceCheck{cfg: cfg, stop: stop, since: time.Now()}
	a.runInBackground(ctx, func(ctx context.Context) error {
		health.Check(ctx, cfg, a.consulServices, func(s health.State) {
			c.state.Set(s)
			a.servicesChanged.Set()
		})
		return nil
	})
	return c
}

// onServiceStates brings the states of the checks to the addresses that require them.
func (a *agent) onServiceStates() {
	for name, c := range a.services {
		state, _ := c.state.Get()
		if !state.Same(c.logged) {
			c.logged, c.since = state, time.Now()
			a.logService(name, state)
		}
	}
	for _, s := range a.slots {
		s.vip.require(a.serviceFitness(s.vip.cfg().Require))
	}
}

// logService logs the state of a check, once for all addresses that require it.
func (a *agent) logService(name string, s health.State) {
	switch {
	case s.Fit:
		a.log.Info("a service is fit", "check", name)
	case s.Known:
		a.log.Warn("a service is not fit", "check", name, "reason", s.Reason)
	}
}

// errNotChecked means that a check has not run as often as it takes.
var errNotChecked = errors.New("the check has not run yet")

// serviceFitness returns why a service that is required is not fit, and why that is not
// known yet; nil: it is fit, or known.
func (a *agent) serviceFitness(required []string) (unfit, unknown error) {
	for _, name := range required {
		var state health.State
		if c := a.services[name]; c != nil { // else it is about to start
			state, _ = c.state.Get()
		}
		switch {
		case state.Fit:
		case !state.Known:
			unknown = fmt.Errorf("check %s: %w", name, errNotChecked)
		case unfit == nil:
			unfit = fmt.Errorf("check %s: %s", name, state.Reason)
		}
	}
	return unfit, unknown
}
