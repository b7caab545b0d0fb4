package integration

// The owners of the addresses: on the hosts, on the wire and in Consul.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// bound returns which hosts have which of the addresses, by "ip address".
func (s *scene) bound() (map[netip.Addr][]*lab.Host, error) {
	bound := make(map[netip.Addr][]*lab.Host)
	for _, h := range s.Servers {
		addrs, err := h.Addresses(context.Background())
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if vip := a.Prefix.Addr(); slices.Contains(s.vips, vip) {
				bound[vip] = append(bound[vip], h)
			}
		}
	}
	return bound, nil
}

// hosts returns the only host that has each address, once there is one.
func (s *scene) hosts() map[netip.Addr]*lab.Host {
	s.t.Helper()
	s.await(s.allBound())
	bound, err := s.bound()
	s.NoError(err)
	hosts := make(map[netip.Addr]*lab.Host)
	for vip, on := range bound {
		hosts[vip] = on[0]
	}
	return hosts
}

// spread counts the addresses that each host has, once each is bound.
func (s *scene) spread() map[string]int {
	s.t.Helper()
	counts := make(map[string]int)
	for _, h := range s.hosts() {
		counts[h.Name]++
	}
	return counts
}

// everyBound is met when the hosts that have an address pass a test, for every
// address.
func (s *scene) everyBound(expected string, test func(vip netip.Addr, hosts []*lab.Host) bool) condition {
	return condition{expected, func() error {
		bound, err := s.bound()
		if err != nil {
			return err
		}
		for _, vip := range s.vips {
			if !test(vip, bound[vip]) {
				return fmt.Errorf("%s on %v", vip, names(bound[vip]))
			}
		}
		return nil
	}}
}

// unbound is met when no host has any of the addresses.
func (s *scene) unbound() condition {
	return s.everyBound("every address on no host", func(_ netip.Addr, hosts []*lab.Host) bool { return len(hosts) == 0 })
}

// allBound is met when each address is on exactly one host.
func (s *scene) allBound() condition {
	return s.everyBound("every address on one host", func(_ netip.Addr, hosts []*lab.Host) bool { return len(hosts) == 1 })
}

// allOnOthers is met when each address is on exactly one host, and not on this.
func (s *scene) allOnOthers(h *lab.Host) condition {
	return s.everyBound("every address on one host other than "+h.Name, func(_ netip.Addr, hosts []*lab.Host) bool {
		return len(hosts) == 1 && hosts[0] != h
	})
}

// notOn is met when a host has none of the addresses.
func (s *scene) notOn(h *lab.Host) condition {
	return s.everyBound("no address on "+h.Name, func(_ netip.Addr, hosts []*lab.Host) bool { return !slices.Contains(hosts, h) })
}

// allOn is met when this host, and no other, has these addresses.
func (s *scene) allOn(h *lab.Host, vips ...netip.Addr) condition {
	return s.everyBound(fmt.Sprintf("%v on %s alone", vips, h.Name), func(vip netip.Addr, hosts []*lab.Host) bool {
		return !slices.Contains(vips, vip) || len(hosts) == 1 && hosts[0] == h
	})
}

// onlyOn is met when a host has exactly these of the addresses.
func (s *scene) onlyOn(h *lab.Host, vips ...netip.Addr) condition {
	return s.everyBound(fmt.Sprintf("of all addresses %v on %s", vips, h.Name), func(vip netip.Addr, hosts []*lab.Host) bool {
		return slices.Contains(vips, vip) == slices.Contains(hosts, h)
	})
}

// ownedBy is met when this host alone has the address, according to the client, to
// Consul's KV and to "ip address", and its takeover is over.
func (s *scene) ownedBy(h *lab.Host) condition {
	return condition{fmt.Sprintf("%s to own %s", h.Name, s.vip), func() error {
		if by := s.client.AnsweredBy(); by != h.Name {
			return fmt.Errorf("the client answered by %q", by)
		}
		pair, r, err := s.lock(s.vip)
		if err != nil {
			return err
		}
		if !r.settled() || r.Node != h.Name || pair.Session == "" {
			return fmt.Errorf("the record %s with session %q", pair.Value, pair.Session)
		}
		return s.allOn(h, s.vip).seen()
	}}
}

// owner waits until a host owns the address and returns it.
func (s *scene) owner() *lab.Host {
	s.t.Helper()
	return s.takenOver(nil)
}

// takenOver waits until a host other than old owns the address and returns it.
// It takes the timeouts of Consul and of the previous owner into account.
func (s *scene) takenOver(old *lab.Host) (owner *lab.Host) {
	s.t.Helper()
	expected := fmt.Sprintf("a host to own %s", s.vip)
	if old != nil {
		expected = fmt.Sprintf("a host other than %s to own %s", old.Name, s.vip)
	}
	s.awaitWithin(2*soon, condition{expected, func() error {
		_, r, err := s.lock(s.vip)
		if err != nil {
			return err
		}
		owner = s.host(r.Node)
		if owner == nil || owner == old {
			return fmt.Errorf("the record of %q in state %q", r.Node, r.State)
		}
		return s.ownedBy(owner).seen()
	}})
	return owner
}

// ownedAnew waits until a host owns the address under another session than the one
// given. It may be the same host, if its instance was started again in the meantime.
func (s *scene) ownedAnew(session string) {
	s.t.Helper()
	s.awaitWithin(2*soon, condition{fmt.Sprintf("a host to own %s under another session", s.vip), func() error {
		pair, r, err := s.lock(s.vip)
		if err != nil {
			return err
		}
		owner := s.host(r.Node)
		if owner == nil || pair.Session == session {
			return fmt.Errorf("the record of %q in state %q", r.Node, r.State)
		}
		return s.ownedBy(owner).seen()
	}})
}

// host returns the server of this name, or nil.
func (s *scene) host(name string) *lab.Host {
	for _, h := range s.Servers {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// seen requires that the observer and the client saw exactly these hosts own the
// address, in this order.
func (s *scene) seen(hosts ...*lab.Host) {
	s.t.Helper()
	s.inOrder("owners seen by the observer", hosts, func() []string { return lab.HostsOf(s.observer.Owned(s.vip)) })
	s.inOrder("owners seen by the client", hosts, func() []string { return s.client.Report().Hosts() })
}

// announced requires that exactly these hosts announced the address, in this order.
func (s *scene) announced(hosts ...*lab.Host) {
	s.t.Helper()
	s.inOrder("hosts that announced it", hosts, func() []string { return lab.HostsOf(s.observer.Announced(s.vip)) })
}

// inOrder requires exactly these hosts. It waits for the last of them: the next
// question of the observer, or the next announcement, may still be due.
func (s *scene) inOrder(what string, hosts []*lab.Host, seen func() []string) {
	s.t.Helper()
	s.await(condition{fmt.Sprintf("%d %s", len(hosts), what), func() error {
		if now := seen(); len(now) < len(hosts) {
			return fmt.Errorf("%v", now)
		}
		return nil
	}})
	s.Equal(names(hosts), seen(), what)
}

// allAnnounced is met when the observer heard every address announced and asked
// for it.
func (s *scene) allAnnounced() condition {
	return condition{"every address announced and answered for", func() error {
		for _, vip := range s.vips {
			if len(s.observer.Announced(vip)) == 0 || len(s.observer.Owned(vip)) == 0 {
				return fmt.Errorf("nothing of %s", vip)
			}
		}
		return nil
	}}
}

// burst is how many frames announce an address after it was bound: a request and
// a reply at 0, 0.2, 1.1, 2.2 and 4.4 s.
const burst = 10

// frames counts the frames that announced an address.
func (s *scene) frames(vip netip.Addr) (n int) {
	for _, r := range s.observer.Announced(vip) {
		n += r.Answers
	}
	return n
}

// burstOver is met when the announcements after binding are over. The periodic
// ones must be far away.
func (s *scene) burstOver(vip netip.Addr) condition {
	return condition{fmt.Sprintf("%d frames that announce %s", burst, vip), func() error {
		if n := s.frames(vip); n < burst {
			return fmt.Errorf("%d", n)
		}
		return nil
	}}
}

// settled waits until every address is bound on one host and its record says so.
func (s *scene) settled() {
	s.t.Helper()
	for vip, h := range s.hosts() {
		s.await(condition{fmt.Sprintf("the record of %s to name %s", vip, h.Name), func() error {
			if _, r, err := s.lock(vip); err != nil || !r.settled() || r.Node != h.Name {
				return errors.Join(err, fmt.Errorf("%+v", r))
			}
			return nil
		}})
	}
}

func names(hosts []*lab.Host) []string {
	var list []string
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	return list
}
