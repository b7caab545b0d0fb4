package agent

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/netif"
)

// segment is what is behind an interface: announcer.Wire.
type segment interface {
	wire
	succession
	Run(ctx context.Context) error
	SetHardwareAddr(mac net.HardwareAddr)
}

// link is one network interface with the wire behind it, shared by all its
// VIPs. It is safe for concurrent use.
type link struct {
	index int
	name  string
	wire  segment
	close context.CancelFunc // ends the wire

	state latest.Latest[linkState]
}

// linkState is what the kernel last said of a link.
type linkState struct {
	up  bool // set up, and with a carrier
	mac net.HardwareAddr
}

// newLink takes the link to be up until the kernel says otherwise, which it
// does as soon as it is watched.
func newLink(ifi *net.Interface, wire segment) *link {
	l := &link{index: ifi.Index, name: ifi.Name, wire: wire}
	l.state.Set(linkState{up: true, mac: ifi.HardwareAddr})
	return l
}

// update takes what the kernel says and reports whether the MAC is another one.
// One goroutine may call it at a time.
func (l *link) update(e netif.LinkChanged) (macChanged bool) {
	s, _ := l.state.Get()
	macDiffers := !bytes.Equal(s.mac, e.HardwareAddr)
	if s.up == e.Up && !macDiffers {
		return false
	}
	macChanged = macDiffers && !e.Removed
	if macChanged {
		s.mac = e.HardwareAddr
		l.wire.SetHardwareAddr(e.HardwareAddr)
	}
	s.up = e.Up
	l.state.Set(s)
	return macChanged
}

// linkFor is the link that v belongs on, opened once for all its VIPs.
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
	if last, ok := a.reports[ifi.Index]; ok {
		l.update(last)
	}
	a.links[ifi.Index] = l
	ctx, cancel := context.WithCancel(a.backgroundCtx)
	l.close = cancel
	a.runInBackground(ctx, wire.Run)
	return l, nil
}

// linkAfterChange is the link of a changed VIP. Only another interface in the
// configuration makes it another link.
func (a *agent) linkAfterChange(c change) (*link, error) {
	if c.from.Interface != c.to.Interface {
		return a.linkFor(c.to)
	}
	p := a.slots[c.to.Addr()]
	if p.next != nil {
		return p.next.link, nil
	}
	return p.vip.link, nil
}

// closeUnusedLinks closes the links that no VIP is on, or will be.
func (a *agent) closeUnusedLinks() {
	used := make(map[*link]bool)
	for _, p := range a.slots {
		used[p.vip.link] = true
		if p.next != nil {
			used[p.next.link] = true
		}
	}
	for index, l := range a.links {
		if !used[l] {
			l.close()
			delete(a.links, index)
		}
	}
}
