package agent

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/netif"
)

// segment is the network segment behind an interface: *announcer.Wire, adapted by
// linkWire.
type segment interface {
	takeoverWire
	activeWire
	releaseWire
	Handover(addr netip.Addr) handover
	Run(ctx context.Context) error
	SetHardwareAddr(mac net.HardwareAddr)
}

// link is one network interface with its wire, shared by all VIPs on it. It is
// safe for concurrent use.
type link struct {
	index int
	name  string
	wire  segment
	close context.CancelFunc // ends the wire

	state latest.Latest[linkState] // set by the loop, followed by the VIPs
}

// linkState is the latest that the kernel has reported about a link.
type linkState struct {
	up  bool // administratively up, and with a carrier
	mac net.HardwareAddr
}

// newLink assumes that the link is up. The watch of the kernel begins with a report
// of every interface, which corrects that.
func newLink(ifi *net.Interface, wire segment) *link {
	l := &link{index: ifi.Index, name: ifi.Name, wire: wire}
	l.state.Set(linkState{up: true, mac: ifi.HardwareAddr})
	return l
}

// update applies a report of the kernel and returns whether the MAC has changed.
// Only the loop calls it.
func (l *link) update(e netif.LinkChanged) (macChanged bool) {
	s, _ := l.state.Get()
	differs := !bytes.Equal(s.mac, e.HardwareAddr)
	if s.up == e.Up && !differs {
		return false
	}
	macChanged = differs && !e.Removed
	if macChanged {
		s.mac = e.HardwareAddr
		l.wire.SetHardwareAddr(e.HardwareAddr)
	}
	s.up = e.Up
	l.state.Set(s)
	return macChanged
}

// linkFor returns the link that v belongs on, and opens it for its first VIP.
func (a *agent) linkFor(v config.VIP) (*link, error) {
	ifi, err := a.host.Find(v.Addr(), v.Interface)
	if err != nil {
		return nil, fmt.Errorf("vip %s: %w", v.Addr(), err)
	}
	if l, ok := a.links[ifi.Index]; ok {
		return l, nil
	}
	wire, err := a.open(ifi)
	if err != nil {
		return nil, fmt.Errorf("vip %s: %w", v.Addr(), err)
	}
	l := newLink(ifi, wire)
	if report, ok := a.reports[ifi.Index]; ok {
		l.update(report)
	}
	a.links[ifi.Index] = l
	ctx, cancel := context.WithCancel(a.backgroundCtx)
	l.close = cancel
	a.runInBackground(ctx, wire.Run)
	return l, nil
}

// linkAfterChange returns the link of a changed VIP. It is another one only if the
// configuration names another interface.
func (a *agent) linkAfterChange(c change) (*link, error) {
	if c.from.Interface != c.to.Interface {
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
	used := make(map[*link]bool)
	for _, s := range a.slots {
		used[s.vip.link] = true
		if s.next != nil {
			used[s.next.link] = true
		}
	}
	for index, l := range a.links {
		if !used[l] {
			l.close()
			delete(a.links, index)
		}
	}
}
