package agent

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/consul-vip/consul-vip/announcer"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
	"github.com/consul-vip/consul-vip/netif"
)

// Description is what an instance tells the others about its host, whether it owns an
// address or not: the fields of its member key that package lease does not know.
type Description struct {
	Links []DescribedLink `json:"links,omitempty"`
}

// DescribedLink is a link of an instance that has, or may get, addresses.
type DescribedLink struct {
	Interface string         `json:"interface"`
	MACs      []string       `json:"macs"`
	Addrs     []netip.Prefix `json:"addrs,omitempty"` // the host's own
	LinkLocal netip.Addr     `json:"link_local,omitzero"`
}

// describe tells the other members how this host can be seen on its links.
func (a *agent) describe() {
	var d Description
	for _, l := range a.links {
		state, _ := l.state.Get()
		d.Links = append(d.Links, DescribedLink{l.name, texts(state.identity.MACs), state.identity.Addrs, state.identity.LinkLocal})
	}
	slices.SortFunc(d.Links, func(a, b DescribedLink) int { return cmp.Compare(a.Interface, b.Interface) })
	encoded, _ := leasestate.NewOwner(d) // a Description is text
	a.keeper.Describe(encoded)
}

func texts(macs []net.HardwareAddr) (texts []string) {
	for _, mac := range macs {
		texts = append(texts, mac.String())
	}
	return texts
}

// descriptionOf returns the description of a member; an older instance gives none.
func descriptionOf(m leasestate.Member) (d Description) {
	_ = m.Owner.Decode(&d)
	return d
}

// has reports whether a MAC is one of the host's.
func (d Description) has(mac net.HardwareAddr) bool {
	return slices.ContainsFunc(d.Links, func(l DescribedLink) bool { return slices.Contains(l.MACs, mac.String()) })
}

// on returns the host as it can be asked on the segment of a link of this host, which it
// shares if it has an address in a subnet of that link: by that address, or for IPv6 by
// its link-local one. The zero Host: it cannot.
func (d Description) on(here netif.Identity, f announcer.Family) announcer.Host {
	for _, l := range d.Links {
		for _, there := range l.Addrs {
			addr := there.Addr()
			if !slices.ContainsFunc(here.Addrs, func(own netip.Prefix) bool { return own.Contains(addr) }) {
				continue
			}
			if f == announcer.IPv6 {
				addr = l.LinkLocal
			}
			if addr.IsValid() && announcer.Of(addr) == f {
				return announcer.Host{Addr: addr, MACs: parseMACs(l.MACs)}
			}
		}
	}
	return announcer.Host{}
}

// memberHost returns the host of a member as it can be seen on the segment of the VIP.
// The zero Host: the member has not told, or there is none.
func (v *vip) memberHost(node string) announcer.Host {
	keys, _ := v.locks.State()
	if keys == nil {
		return announcer.Host{}
	}
	here, _ := v.link.state.Get()
	return descriptionOf(keys.Members[node]).on(here.identity, announcer.Of(v.cfg().Addr()))
}

// MemberWith returns the node of the member that has a MAC, other than this host; else
// an empty string.
func MemberWith(s *leasestate.State, mac net.HardwareAddr) string {
	if s == nil {
		return ""
	}
	for node, m := range s.Members {
		if descriptionOf(m).has(mac) {
			return node
		}
	}
	return ""
}

// witnesses returns the hosts on the segment of a link that can prove that this host is
// heard by the protocol of a family: the gateway and all members but this one and the
// node without.
func witnesses(s *leasestate.State, here linkState, f announcer.Family, without string) announcer.Witnesses {
	w := announcer.Witnesses{Gateway: announcer.Host{Addr: here.identity.Gateway}, Others: otherMembers(s, here, f, without)}
	if f == announcer.IPv6 {
		w.Gateway.Addr = here.identity.Gateway6
	}
	return w
}

// otherMembers returns the hosts of all members on the segment of a link, but this one and
// the node without.
func otherMembers(s *leasestate.State, here linkState, f announcer.Family, without string) (hosts []announcer.Host) {
	if s == nil {
		return nil
	}
	for node, m := range s.Members {
		d := descriptionOf(m)
		if h := d.on(here.identity, f); node != without && h.Addr.IsValid() && !d.has(here.mac) {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b announcer.Host) int { return a.Addr.Compare(b.Addr) })
	return hosts
}
