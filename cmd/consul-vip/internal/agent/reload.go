package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/netif"
)

// Why a reload ends a VIP. Both reach the log and, in a released lock, the record.
var (
	errRemoved = errors.New("removed from the configuration")
	errMoved   = errors.New("its interface, bind or prefix length has changed in the configuration")
)

// plan lists the steps from one configuration to another.
type plan struct {
	cfg       *config.Config // the configuration as far as it applies without a restart
	added     []config.VIP
	removed   []netip.Addr
	changed   []change
	unchanged int
	restart   []string // changed keys that take effect only after a restart
}

// change is a VIP whose configuration differs.
type change struct{ from, to config.VIP }

// newPlan compares the running configuration with its replacement.
func newPlan(from, to *config.Config) plan {
	p := plan{cfg: new(config.Config)}
	*p.cfg = *from
	p.cfg.VIPs, p.cfg.Checks, p.cfg.Hooks, p.cfg.HostCheck, p.cfg.LogLevel = to.VIPs, to.Checks, to.Hooks, to.HostCheck, to.LogLevel
	p.restart = needRestart(from, to)

	gone := make(map[netip.Addr]config.VIP)
	for _, v := range from.VIPs {
		gone[v.Addr()] = v
	}
	for _, v := range to.VIPs {
		old, known := gone[v.Addr()]
		delete(gone, v.Addr())
		switch {
		case !known:
			p.added = append(p.added, v)
		case !reflect.DeepEqual(old, v):
			p.changed = append(p.changed, change{old, v})
		default:
			p.unchanged++
		}
	}
	for _, v := range from.VIPs {
		if _, ok := gone[v.Addr()]; ok {
			p.removed = append(p.removed, v.Addr())
		}
	}
	return p
}

// needRestart names the keys that differ and that a running process cannot change.
func needRestart(from, to *config.Config) (differ []string) {
	a, b := from.Consul, to.Consul
	for _, key := range []struct {
		name string
		same bool
	}{
		{"log_json", from.LogJSON == to.LogJSON},
		{"node_name", from.NodeName == to.NodeName},
		{"socket", from.Socket == to.Socket},
		{"consul.address", a.Address == b.Address},
		{"consul.token_file", a.TokenFile == b.TokenFile},
		{"consul.prefix", a.Prefix == b.Prefix},
		{"consul.service", a.Service == b.Service},
		{"consul.session_ttl", a.SessionTTL == b.SessionTTL},
		{"consul.check_ttl", a.CheckTTL == b.CheckTTL},
	} {
		if !key.same {
			differ = append(differ, key.name)
		}
	}
	return differ
}

// summary returns the plan as log fields.
func (p plan) summary() []any {
	added, changed, removed := []string{}, []string{}, []string{}
	for _, v := range p.added {
		added = append(added, v.Addr().String())
	}
	for _, c := range p.changed {
		changed = append(changed, c.to.Addr().String())
	}
	for _, addr := range p.removed {
		removed = append(removed, addr.String())
	}
	return []any{"added", added, "removed", removed, "changed", changed, "unchanged", p.unchanged}
}

// reload replaces the running configuration by cfg, or logs why not and changes
// nothing. It does not wait for VIPs to end or to start.
func (a *agent) reload(cfg *config.Config) {
	p := newPlan(a.cfg, cfg)
	found, err := a.prepare(p)
	if err != nil {
		a.log.Error("configuration not reloaded, nothing has changed", "error", err)
		return
	}
	a.log.SetLevel(p.cfg.LogLevel)
	for _, key := range p.restart {
		a.log.Warn("a changed key takes effect only after a restart", "key", key)
	}
	a.apply(p, found)
	if len(p.added)+len(p.changed) > 0 {
		logWorstCases(a.log, a.cfg)
	}
	a.log.Info("configuration reloaded", p.summary()...)
}

// prepared is what a plan needs to be applied.
type prepared struct {
	links   map[netip.Addr]*link
	foreign map[netip.Addr]error // the new addresses that another program has bound
}

// prepare does everything in p that can fail: it finds and opens the link of every
// new or changed VIP, and removes leftovers of new addresses. After an error
// everything is as before.
func (a *agent) prepare(p plan) (found prepared, err error) {
	defer func() {
		if err != nil {
			a.closeUnusedLinks()
		}
	}()
	links := make(map[netip.Addr]*link)
	for _, v := range p.added {
		if v.Unbound {
			continue // it belongs on no link
		}
		if links[v.Addr()], err = a.linkFor(v); err != nil {
			return prepared{}, err
		}
	}
	for _, c := range p.changed {
		if c.to.Unbound {
			continue
		}
		if links[c.to.Addr()], err = a.linkAfterChange(c); err != nil {
			return prepared{}, err
		}
	}
	foreign, err := a.clearLeftovers(p.added)
	return prepared{links, foreign}, err
}

// clearLeftovers removes new addresses that a previous process left bound. The
// instance lock rules out that another running process has bound them. Addresses
// that this process has bound itself are not touched. It returns the addresses that
// another program has bound.
func (a *agent) clearLeftovers(added []config.VIP) (foreign map[netip.Addr]error, err error) {
	var addrs []netip.Addr
	for _, v := range added {
		if a.slots[v.Addr()] == nil && !v.Unbound {
			addrs = append(addrs, v.Addr())
		}
	}
	foreign = map[netip.Addr]error{}
	for {
		cleared, err := a.host.Clear(addrs)
		for _, p := range cleared {
			a.log.Warn("removed an address left by a previous process", "vip", p.Addr())
		}
		var bound *netif.ForeignError
		if !errors.As(err, &bound) {
			if err != nil {
				return nil, fmt.Errorf("clearing leftovers: %w", err)
			}
			return foreign, nil
		}
		foreign[bound.Addr] = err
		addrs = slices.DeleteFunc(addrs, func(addr netip.Addr) bool { return addr == bound.Addr })
	}
}

// apply carries out p, with what prepare has found. It cannot fail.
func (a *agent) apply(p plan, found prepared) {
	hooksDiffer := !reflect.DeepEqual(a.cfg.Hooks, p.cfg.Hooks)
	a.cfg = p.cfg
	a.hooks.Set(p.cfg.Hooks)
	for _, addr := range p.removed {
		a.end(addr, errRemoved)
	}
	for _, c := range p.changed {
		a.applyVIP(placement{c.to, found.links[c.to.Addr()], nil})
	}
	for _, v := range p.added {
		a.applyVIP(placement{v, found.links[v.Addr()], found.foreign[v.Addr()]})
	}
	if hooksDiffer { // one may run before a release
		for _, s := range a.slots {
			s.vip.update()
		}
	}
	a.closeUnusedLinks()
	a.updateServiceChecks()
	a.checks.updateSoon(lineDebounce)
}

// applyVIP starts or changes a VIP. If it moves to another link or prefix, the
// running VIP first has to release the address.
func (a *agent) applyVIP(p placement) {
	s := a.slots[p.cfg.Addr()]
	switch {
	case s == nil:
		a.start(p)
	case s.ending:
		s.next = &p
	case s.vip.link == p.link && s.vip.cfg().Prefix == p.cfg.Prefix:
		s.vip.change(p.cfg)
	default:
		s.end(errMoved)
		s.next = &p
	}
}
