package agent

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/netif"
)

// segment is the network segment behind an interface: *wires.
type segment interface {
	// Use prepares for an address. It comes before everything else about it.
	Use(addr netip.Addr) error
	takeoverWire
	activeWire
	releaseWire
	Handover(addr netip.Addr) handover
	Run(ctx context.Context) error
	SetHardwareAddr(mac net.HardwareAddr)
	hostCheckWire
}

// carrierDebounce is how long a link may be down before this host gives up the
// addresses on it.
const carrierDebounce = 500 * time.Millisecond

// link is one network interface with its wire, shared by all VIPs on it.
type link struct {
	// Set by linkFor, never changed.
	index int
	name  string
	wire  segment
	close context.CancelFunc // ends the wire
	used  latest.Wake        // set by the loop after an address has begun to use the wire

	state latest.Latest[linkState] // set by the loop, followed by the VIPs
	heard atomic.Pointer[lastHeard]

	// Owned by the loop.
	reported  bool      // the kernel has reported the link
	downSince time.Time // while the link is down and still usable
	alone     bool      // it was logged that nobody can prove that this host is heard
}

// linkState is the latest that the kernel has reported about a link.
type linkState struct {
	up     bool // administratively up, and with a carrier
	usable bool // up, or down for less than carrierDebounce
	mac    net.HardwareAddr
	// identity is what other hosts see of this one.
	identity netif.Identity
}

// newLink assumes that the link is up. The watch of the kernel begins with a report
// of every interface, which corrects that at once.
func newLink(ifi *net.Interface, wire segment) *link {
	l := &link{index: ifi.Index, name: ifi.Name, wire: wire, used: latest.NewWake()}
	l.state.Set(linkState{up: true, usable: true, mac: ifi.HardwareAddr})
	return l
}

// update applies a report of the kernel. It returns the states before and after.
func (l *link) update(e netif.LinkChanged) (before, after linkState) {
	before, _ = l.state.Get()
	after = before
	after.up = e.Up
	after.usable = e.Up || (before.usable && l.reported)
	l.reported = true
	if before.up {
		l.downSince = time.Now()
	}
	if !e.Removed && !bytes.Equal(before.mac, e.HardwareAddr) {
		after.mac = e.HardwareAddr
		l.wire.SetHardwareAddr(e.HardwareAddr)
	}
	if !after.equal(before) {
		l.state.Set(after)
	}
	return before, after
}

// debounce ends the use of the link if it has been down for too long, and returns
// whether it has done so, and else for how much longer the link may be down; 0: it
// is not down.
func (l *link) debounce() (ended bool, left time.Duration) {
	s, _ := l.state.Get()
	if s.up || !s.usable {
		return false, 0
	}
	if left := carrierDebounce - time.Since(l.downSince); left > 0 {
		return false, left
	}
	s.usable = false
	l.state.Set(s)
	return true, 0
}

func (s linkState) equal(o linkState) bool {
	return s.up == o.up && s.usable == o.usable && bytes.Equal(s.mac, o.mac) && s.identity.Equal(o.identity)
}

// onLinkReport applies a report of the kernel to the link and the locks on it. A
// record has to name the current MAC: in a handover the successor expects frames
// from it.
func (a *agent) onLinkReport(e netif.LinkChanged) {
	a.reports[e.Index] = e
	if e.Removed {
		delete(a.reports, e.Index)
	}
	l, ok := a.links[e.Index]
	if !ok {
		return
	}
	before, after := l.update(e)
	if before.up != after.up {
		a.logLink(l, after)
	}
	if before.usable != after.usable || !bytes.Equal(before.mac, after.mac) {
		a.updateLocks(l)
		a.checks.updateSoon(lineDebounce)
	}
	if !bytes.Equal(before.mac, after.mac) {
		a.identify(l)
	}
	a.debounceLinks()
}

// debounceLinks ends the use of the links that have been down for too long, and sets
// the timer for the next one.
func (a *agent) debounceLinks() {
	a.debounce = nil
	var next time.Duration
	for _, l := range a.links {
		ended, left := l.debounce()
		if ended {
			state, _ := l.state.Get()
			a.logLink(l, state)
			a.updateLocks(l)
			a.checks.updateSoon(lineDebounce)
		}
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	if next > 0 {
		a.debounce = time.After(next)
	}
}

// onIdentityChanged finds out what other hosts see now of this one; 0: on every link.
func (a *agent) onIdentityChanged(ifindex int) {
	for _, l := range a.links {
		if ifindex == 0 || ifindex == l.index {
			a.identify(l)
		}
	}
}

// identify brings what other hosts see of this one on a link to the locks and to the
// other members. Without an answer of the kernel everything stays as it is.
func (a *agent) identify(l *link) {
	identity, err := a.host.Identity(l.index)
	if err != nil {
		a.log.Warn("could not read this host's own addresses", "interface", l.name, "error", err)
		return
	}
	state, _ := l.state.Get()
	if state.identity.Equal(identity) {
		return
	}
	state.identity = identity
	l.state.Set(state)
	a.updateLocks(l)
	a.describe()
	a.checks.updateSoon(lineDebounce)
}

// logLink logs a change of a link, once for all its addresses.
func (a *agent) logLink(l *link, s linkState) {
	log := a.log.With("interface", l.name)
	switch {
	case s.up:
		log.Info("the link is up")
	case s.usable:
		log.Warn("the link is down")
	default:
		log.Warn("not eligible", "reason", errLinkDown, "addresses", len(a.vipsOn(l)))
	}
}

// updateLocks brings the state of l to every lock on it.
func (a *agent) updateLocks(l *link) {
	for _, v := range a.vipsOn(l) {
		v.update()
	}
}

func (a *agent) vipsOn(l *link) (vips []*vip) {
	for _, s := range a.slots {
		if s.vip.link == l {
			vips = append(vips, s.vip)
		}
	}
	return vips
}

// linkFor returns the link that v belongs on, and opens it for its first VIP.
func (a *agent) linkFor(v config.VIP) (*link, error) {
	ifi, err := a.host.Find(v.Addr(), v.Interface)
	if err != nil {
		return nil, fmt.Errorf("vip %s: %w", v.Addr(), err)
	}
	l, ok := a.links[ifi.Index]
	if !ok {
		l = newLink(ifi, a.open(ifi))
	}
	if err := l.wire.Use(v.Addr()); err != nil {
		return nil, fmt.Errorf("vip %s: %w", v.Addr(), err)
	}
	l.used.Set()
	if ok {
		return l, nil
	}
	if report, ok := a.reports[ifi.Index]; ok {
		l.update(report)
	}
	a.links[ifi.Index] = l
	a.identify(l)
	ctx, cancel := context.WithCancel(a.backgroundCtx)
	l.close = cancel
	a.runInBackground(ctx, l.wire.Run)
	a.runInBackground(ctx, l.meetGateways)
	return l, nil
}

// meetGateways has the wire meet the gateways of the link, until ctx ends: in a proof, the
// silence of one that the wire does not know would pass for a segment without a witness.
func (l *link) meetGateways(ctx context.Context) error {
	for ctx.Err() == nil {
		state, changed := l.state.Get()
		meeting, stop := context.WithCancel(ctx)
		var all sync.WaitGroup
		for _, gateway := range []netip.Addr{state.identity.Gateway, state.identity.Gateway6} {
			if source := state.identity.Source(gateway); gateway.IsValid() && source.IsValid() {
				all.Go(func() { _ = l.wire.Meet(meeting, source, gateway) }) // the wire tells the loop itself
			}
		}
		select {
		case <-changed:
		case <-l.used:
		case <-ctx.Done():
		}
		stop()
		all.Wait()
	}
	return nil
}

// linkAfterChange returns the link of a changed VIP. It is another one only if the
// configuration names another interface, or did not bind it before.
func (a *agent) linkAfterChange(c change) (*link, error) {
	if c.from.Interface != c.to.Interface || c.from.Unbound {
		return a.linkFor(c.to)
	}
	s := a.slots[c.to.Addr()]
	if s.next != nil {
		return s.next.link, nil
	}
	return s.vip.link, nil
}

// closeUnusedLinks closes the links that no slot uses.
func (a *agent) closeUnusedLinks() {
	for _, l := range a.links {
		a.closeIfUnused(l)
	}
}

// closeIfUnused closes l if no slot uses it.
func (a *agent) closeIfUnused(l *link) {
	for _, s := range a.slots {
		if s.vip.link == l || (s.next != nil && s.next.link == l) {
			return
		}
	}
	l.close()
	delete(a.links, l.index)
	a.describe()
}
