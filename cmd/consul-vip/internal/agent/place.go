package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/consul-vip/consul-vip/config"
)

// place finds the link of every VIP that p adds or changes, and opens those that
// are not open yet. If one cannot be had, or another program has the address of
// a new VIP, nothing has changed.
func (a *agent) place(p plan) (links map[netip.Addr]*link, err error) {
	defer func() {
		if err != nil {
			a.closeUnused()
		}
	}()
	links = make(map[netip.Addr]*link)
	for _, v := range p.added {
		if links[v.Addr()], err = a.linkOf(v); err != nil {
			return nil, err
		}
	}
	for _, c := range p.changed {
		if links[c.to.Addr()], err = a.linkAfter(c); err != nil {
			return nil, err
		}
	}
	return links, a.clearLeftovers(p.added)
}

// linkAfter is the link of a changed VIP. Only another interface in the
// configuration makes it another link.
func (a *agent) linkAfter(c change) (*link, error) {
	if c.from.Interface != c.to.Interface {
		return a.linkOf(c.to)
	}
	p := a.posts[c.to.Addr()]
	if p.next != nil {
		return p.next.link, nil
	}
	return p.vip.link, nil
}

// linkOf is the link that v belongs on, opened once for all its VIPs.
func (a *agent) linkOf(v config.VIP) (*link, error) {
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
	ctx, cancel := context.WithCancel(a.base)
	l.close = cancel
	a.under(ctx, wire.Run)
	return l, nil
}

// clearLeftovers removes what a dead predecessor left bound of the addresses of
// new VIPs. That no live one is meant, the instance lock has made sure of; what
// this process has bound itself is not touched.
func (a *agent) clearLeftovers(added []config.VIP) error {
	var addrs []netip.Addr
	for _, v := range added {
		if a.posts[v.Addr()] == nil {
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

// closeUnused closes the links that no VIP is on, or will be.
func (a *agent) closeUnused() {
	used := make(map[*link]bool)
	for _, p := range a.posts {
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
