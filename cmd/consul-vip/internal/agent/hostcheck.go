package agent

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

const (
	// lineDebounce is how long changes of the keys are collected before it is worked
	// out anew which hosts to check. With thousands of addresses that is some work.
	lineDebounce = 250 * time.Millisecond
	// longestLine: this many members in line for an address check the host that owns it.
	longestLine = 2

	// wronglyDead is how soon after its death a host must be heard again to prove that
	// it was alive. Its misses are doubled then, for as long as a day.
	wronglyDead = 10 * time.Second
	doubledFor  = 24 * time.Hour
	mostDoubled = 4 // times
)

// hostCheckWire is the wire as the host check uses it: *announcer.Wire.
type hostCheckWire interface {
	CheckHost(ctx context.Context, c announcer.HostCheckConfig, changed func(announcer.HostState)) error
	MeasureLoss(ctx context.Context, source netip.Addr, host announcer.Host, interval time.Duration) error
	LastHeard() time.Time
	Meet(ctx context.Context, source, host netip.Addr) error
	Witnessed(ctx context.Context, source netip.Addr, w announcer.Witnesses) bool
}

// hostKey names a check: one for each host, link and setting.
type hostKey struct {
	node  string
	link  int
	addr  netip.Addr // the host's own
	macs  string     // of the host, the one to ask first
	from  netip.Addr // our own
	check config.HostCheck
}

// host is the host as the wire knows it.
func (k hostKey) host() announcer.Host {
	return announcer.Host{Addr: k.addr, MACs: parseMACs(strings.Fields(k.macs))}
}

// hostCheck is a check of a host that owns addresses for which this host is in line.
type hostCheck struct {
	// Set when it starts, never changed.
	key  hostKey
	link *link
	stop context.CancelFunc

	state  latest.Latest[announcer.HostState] // set by the check's goroutine
	missed atomic.Int64                       // intervals in a row; set by the check's goroutine
	addrs  atomic.Pointer[[]netip.Addr]       // that the host owns, those of the check's family first; set by the loop

	// Owned by the loop.
	owned map[netip.Addr]ownedVIP
	dead  time.Time // when it counted as dead; zero: it does not
	since time.Time // when the check began, or the host was heard again
}

// ownedVIP is an address of a host that is checked.
type ownedVIP struct {
	vip     *vip
	session string    // of the owner
	since   time.Time // when the host was first seen to own it
}

// hostChecks are the checks that run. The loop owns them.
type hostChecks struct {
	running map[hostKey]*hostCheck
	changed latest.Wake // set by each check's goroutine after its state has changed
	due     <-chan time.Time
	dueAt   time.Time
	doubled map[doubledKey]doubled
}

// doubledKey names a host on a link that once counted as dead without being so.
type doubledKey struct {
	node string
	link int
}

type doubled struct {
	times int
	until time.Time
}

func newHostChecks() hostChecks {
	return hostChecks{running: map[hostKey]*hostCheck{}, changed: latest.NewWake(), doubled: map[doubledKey]doubled{}}
}

// updateSoon has the checks updated after a while, unless that is due before.
func (c *hostChecks) updateSoon(after time.Duration) {
	if at := time.Now().Add(after); c.due == nil || at.Before(c.dueAt) {
		c.due, c.dueAt = time.After(after), at
	}
}

// updateHostChecks starts and ends checks, as the latest State of the keys asks for.
func (a *agent) updateHostChecks() {
	a.checks.due = nil
	keys, _ := a.keeper.State()
	wanted := map[hostKey]map[netip.Addr]ownedVIP{}
	for addr, s := range a.slots {
		key, session, ok := a.toCheck(s.vip, keys)
		if !ok {
			s.vip.setDead(nil)
			continue
		}
		if wanted[key] == nil {
			wanted[key] = map[netip.Addr]ownedVIP{}
		}
		wanted[key][addr] = ownedVIP{vip: s.vip, session: session}
	}
	for key, owned := range wanted {
		c := a.checks.running[key]
		if c == nil {
			c = a.startHostCheck(key, owned)
		} else {
			c.own(owned)
		}
		a.judge(c)
	}
	for key, c := range a.checks.running {
		if wanted[key] != nil {
			continue
		}
		c.owned = nil
		if left := wronglyDead - time.Since(c.dead); !c.dead.IsZero() && left > 0 && a.links[key.link] == c.link {
			a.checks.updateSoon(left) // it may be heard again
			continue
		}
		c.stop()
		delete(a.checks.running, key)
	}
}

// toCheck returns which host to check for an address, and the session of its owner. A
// host is checked by those who may have to take the address: the first and the second
// in line. The owner's record must name its MAC and its own address.
func (a *agent) toCheck(v *vip, keys *leasestate.State) (key hostKey, session string, ok bool) {
	cfg := v.cfg()
	if keys == nil || cfg.Takeover == config.TakeoverStrict || cfg.HostCheck.Misses == 0 || v.ineligible() != nil {
		return hostKey{}, "", false
	}
	l := keys.Locks[cfg.Addr().String()]
	if l.Session == "" || l.Record.State != leasestate.RecordHeld || l.Record.Session != l.Session {
		return hostKey{}, "", false
	}
	here, _ := v.link.state.Get()
	host := checkedHost(l.Record, keys, here.identity)
	source := here.identity.Source(host.Addr)
	if !host.Addr.IsValid() || len(host.MACs) == 0 || !source.IsValid() || host.Has(here.mac) {
		return hostKey{}, "", false
	}
	position, candidate := a.keeper.InLine(keys, cfg.Addr().String())
	if !candidate || position >= longestLine {
		return hostKey{}, "", false
	}
	check := cfg.HostCheck
	check.Misses *= a.doubledMisses(l.Record.Node, v.link.index)
	macs := strings.Join(texts(host.MACs), " ")
	return hostKey{l.Record.Node, v.link.index, host.Addr, macs, source, check}, l.Session, true
}

// checkedHost returns the host of a lock's owner as it is to be checked. One that owns
// addresses of both families is checked once, by ARP, if it has an IPv4 address of its own.
func checkedHost(r leasestate.Record, keys *leasestate.State, here netif.Identity) announcer.Host {
	host := DecodeOwner(r.Owner).host()
	other := descriptionOf(keys.Members[r.Node]).on(here, announcer.IPv4)
	if host.Addr.Is6() && len(host.MACs) > 0 && other.Has(host.MACs[0]) && here.Source(other.Addr).IsValid() {
		host.Addr = other.Addr
	}
	return host
}

// startHostCheck starts to check the host that owns these addresses.
func (a *agent) startHostCheck(key hostKey, owned map[netip.Addr]ownedVIP) *hostCheck {
	c := &hostCheck{key: key, link: a.links[key.link], since: time.Now()}
	ctx, stop := context.WithCancel(a.backgroundCtx)
	c.stop = stop
	a.checks.running[key] = c
	c.own(owned)
	a.runInBackground(ctx, func(ctx context.Context) error {
		if err := c.link.wire.Use(key.addr); err != nil {
			return err
		}
		err := c.link.wire.CheckHost(ctx, announcer.HostCheckConfig{
			Host: key.host(), Source: key.from,
			Interval: key.check.Interval, Misses: key.check.Misses,
			Canary:    func() announcer.Canary { return a.canary(c) },
			Witnesses: func() announcer.Witnesses { return a.witnessesOf(c) },
			Missed:    &c.missed,
		}, func(s announcer.HostState) {
			c.state.Set(s)
			a.checks.changed.Set()
		})
		if errors.Is(err, announcer.ErrClosed) {
			return nil // the wire tells the loop itself
		}
		return err
	})
	if !c.link.alone && a.witnessesOf(c).None() {
		c.link.alone = true
		a.log.Warn("host check without effect: no witness, neither a gateway nor a third member, can prove that this host is heard",
			"interface", c.link.name, "node", key.node)
	}
	return c
}

// witnessesOf returns who can prove that this host is heard, while another is not.
func (a *agent) witnessesOf(c *hostCheck) announcer.Witnesses {
	keys, _ := a.keeper.State()
	here, _ := c.link.state.Get()
	return witnesses(keys, here, announcer.Of(c.key.addr), c.key.node)
}

// canary returns an address that the host owns at this moment: it may have handed one
// over since the loop has looked. One that is taken from a dead host may still be in its
// kernel.
func (a *agent) canary(c *hostCheck) announcer.Canary {
	keys, _ := a.keeper.State()
	here, _ := c.link.state.Get()
	addrs := *c.addrs.Load()
	for _, addr := range addrs {
		if r := keys.Locks[addr.String()].Record; r.State == leasestate.RecordHeld && r.Node == c.key.node {
			return announcer.Canary{Addr: addr, Source: here.identity.Source(addr)}
		}
	}
	if state, _ := c.state.Get(); state.Dead && len(addrs) > 0 {
		return announcer.Canary{Addr: addrs[0], Source: here.identity.Source(addrs[0])}
	}
	return announcer.Canary{}
}

// own replaces the addresses that the host owns.
func (c *hostCheck) own(owned map[netip.Addr]ownedVIP) {
	other := func(addr netip.Addr) int {
		if announcer.Of(addr) == announcer.Of(c.key.addr) {
			return 0
		}
		return 1
	}
	addrs := slices.SortedFunc(maps.Keys(owned), func(a, b netip.Addr) int {
		return cmp.Or(other(a)-other(b), a.Compare(b))
	})
	if state, _ := c.state.Get(); !state.Dead {
		c.addrs.Store(&addrs)
	}
	for addr, o := range owned {
		o.since = time.Now()
		if before, known := c.owned[addr]; known && before.session == o.session {
			o.since = before.since
		}
		owned[addr] = o
	}
	c.owned = owned
}

// onHostStates looks at every check whose host has died, or is heard again.
func (a *agent) onHostStates() {
	for _, c := range a.checks.running {
		a.judge(c)
	}
}

// judge has the addresses of a dead host taken, or spares them. The host must have
// answered since it became their owner, for as long as it has not answered now.
func (a *agent) judge(c *hostCheck) {
	state, _ := c.state.Get()
	switch {
	case state.Dead && c.dead.IsZero():
		c.dead = time.Now()
		a.checks.updateSoon(wronglyDead)
		a.log.Warn("a host does not answer on the wire", "node", c.key.node, "interface", c.link.name,
			"misses", c.key.check.Misses, "silent_for", round(c.dead.Sub(state.Since)), "addresses", len(c.owned))
	case !state.Dead && !c.dead.IsZero():
		a.onHeardAgain(c)
	}
	for _, o := range c.owned {
		if state.Dead && state.Since.Sub(o.since) >= c.key.check.Interval*time.Duration(c.key.check.Misses) {
			o.vip.setDead(&dead{o.session, state.Since, c.dead})
		} else {
			o.vip.setDead(nil)
		}
	}
}

// onHeardAgain notes that a host answers that counted as dead. Addresses that were taken
// from it are announced at once, so that it learns whose they are.
func (a *agent) onHeardAgain(c *hostCheck) {
	away := time.Since(c.dead)
	c.dead, c.since = time.Time{}, time.Now()
	log := a.log.With("node", c.key.node, "interface", c.link.name)
	log.Info("the host answers on the wire again", "after", round(away))
	for _, v := range a.vipsOn(c.link) {
		v.heard.Set()
	}
	if away >= wronglyDead {
		return
	}
	key := doubledKey{c.key.node, c.key.link}
	d := doubled{min(2*a.doubledMisses(key.node, key.link), mostDoubled), time.Now().Add(doubledFor)}
	a.checks.doubled[key] = d
	a.checks.updateSoon(lineDebounce)
	log.Warn("the host was not dead: it may miss more from now on", "times", d.times, "for", doubledFor.String())
}

// doubledMisses is the factor by which a host may miss more than is configured.
func (a *agent) doubledMisses(node string, link int) int {
	d, ok := a.checks.doubled[doubledKey{node, link}]
	if !ok || time.Now().After(d.until) {
		return 1
	}
	return d.times
}
