package agent

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/consul-vip/consul-vip/config"
)

// Why a reload ends a VIP, as the records and the log say it.
var (
	errRemoved = errors.New("removed from the configuration")
	errMoved   = errors.New("its interface or prefix length has changed in the configuration")
)

// plan is what it takes to get from one configuration to another.
type plan struct {
	cfg       *config.Config // as far as it can be had without a restart
	added     []config.VIP
	removed   []netip.Addr
	changed   []change
	unchanged int
	restart   []string // keys that change only by a restart of the process
}

// change is a VIP as it is and as it is to be.
type change struct{ from, to config.VIP }

// decide compares the running configuration with the one that is to be.
func decide(from, to *config.Config) plan {
	p := plan{cfg: new(config.Config)}
	*p.cfg = *from
	p.cfg.VIPs, p.cfg.LogLevel = to.VIPs, to.LogLevel
	p.restart = needRestart(from, to)

	was := make(map[netip.Addr]config.VIP)
	for _, v := range from.VIPs {
		was[v.Addr()] = v
	}
	for _, v := range to.VIPs {
		old, known := was[v.Addr()]
		delete(was, v.Addr())
		switch {
		case !known:
			p.added = append(p.added, v)
		case old != v:
			p.changed = append(p.changed, change{old, v})
		default:
			p.unchanged++
		}
	}
	for _, v := range from.VIPs {
		if _, gone := was[v.Addr()]; gone {
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

// summary is the plan as the log shows it.
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

// reload makes cfg the running configuration, or changes nothing at all and
// says why. It returns when everything has been set going.
func (a *agent) reload(cfg *config.Config) {
	p := decide(a.cfg, cfg)
	links, err := a.prepare(p)
	if err != nil {
		a.log.Error("the configuration is not reloaded, nothing has changed", "error", err)
		return
	}
	a.log.SetLevel(p.cfg.LogLevel)
	for _, key := range p.restart {
		a.log.Warn("a key has changed that needs a restart of the agent", "key", key)
	}
	a.apply(p, links)
	if len(p.added)+len(p.changed) > 0 {
		logWorstCases(a.log, a.cfg)
	}
	a.log.Info("configuration reloaded", p.summary()...)
}

// prepare finds the link of every VIP that p adds or changes, and opens those that
// are not open yet. If one cannot be had, or another program has the address of
// a new VIP, nothing has changed.
func (a *agent) prepare(p plan) (links map[netip.Addr]*link, err error) {
	defer func() {
		if err != nil {
			a.closeUnusedLinks()
		}
	}()
	links = make(map[netip.Addr]*link)
	for _, v := range p.added {
		if links[v.Addr()], err = a.linkFor(v); err != nil {
			return nil, err
		}
	}
	for _, c := range p.changed {
		if links[c.to.Addr()], err = a.linkAfterChange(c); err != nil {
			return nil, err
		}
	}
	return links, a.clearLeftovers(p.added)
}

// clearLeftovers removes what a dead predecessor left bound of the addresses of
// new VIPs. That no live one is meant, the instance lock has made sure of; what
// this process has bound itself is not touched.
func (a *agent) clearLeftovers(added []config.VIP) error {
	var addrs []netip.Addr
	for _, v := range added {
		if a.slots[v.Addr()] == nil {
			addrs = append(addrs, v.Addr())
		}
	}
	cleared, err := a.host.Clear(addrs)
	for _, p := range cleared {
		a.log.Warn("removed an address that a predecessor left behind", "vip", p.Addr())
	}
	if err != nil {
		return fmt.Errorf("clearing leftovers: %w", err)
	}
	return nil
}

// apply carries out p, with a link for every VIP that is new or changed. Nobody
// else hears of it.
func (a *agent) apply(p plan, links map[netip.Addr]*link) {
	a.cfg = p.cfg
	for _, addr := range p.removed {
		a.end(addr, errRemoved)
	}
	for _, c := range p.changed {
		a.applyVIP(placement{c.to, links[c.to.Addr()]})
	}
	for _, v := range p.added {
		a.applyVIP(placement{v, links[v.Addr()]})
	}
	a.closeUnusedLinks()
}

// applyVIP has a VIP run as p says: at once, or after what it replaces, which has to
// give the address back first.
func (a *agent) applyVIP(p placement) {
	slot := a.slots[p.cfg.Addr()]
	switch {
	case slot == nil:
		a.start(p)
	case slot.ending:
		slot.next = &p
	case slot.vip.link == p.link && slot.vip.cfg().Prefix == p.cfg.Prefix:
		slot.vip.change(p.cfg)
	default:
		slot.end(errMoved)
		slot.next = &p
	}
}
