package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
)

// Hosts are the machines of a lab.
type Hosts struct {
	// Servers are h1, h2 and h3, which serve the addresses: consul-vip and a Consul agent
	// run on each.
	Servers []*Host
	// ConsulServers are c1, c2 and c3, if Consul's servers run on machines of their own.
	ConsulServers []*Host
	Client        *Host // sends the echo requests
	Observer      *Host // sends the ARP questions and the forged frames
	Gateway       *Host // next hop of the default route of h1, h2 and h3; nil: they have none
}

// addHosts adds the machines of a lab to the segment.
func (s *segment) addHosts() (hosts Hosts, err error) {
	if hosts.Servers, err = s.addThree("h", 0, attachment{service: true, consul: true}); err != nil {
		return Hosts{}, err
	}
	if s.config.ClientAgents {
		if hosts.ConsulServers, err = s.addThree("c", 20, attachment{consul: true}); err != nil {
			return Hosts{}, err
		}
	}
	if hosts.Client, err = s.addHost("client", 40, attachment{service: true}); err != nil {
		return Hosts{}, err
	}
	if hosts.Observer, err = s.addHost("observer", 50, attachment{service: true}); err != nil || !s.config.Gateway {
		return hosts, err
	}
	if hosts.Gateway, err = s.addHost("gateway", 60, attachment{service: true}); err != nil {
		return Hosts{}, err
	}
	for _, h := range hosts.Servers {
		if err := h.setGateway(hosts.Gateway); err != nil {
			return Hosts{}, err
		}
	}
	return hosts, nil
}

// addThree adds three hosts with these first parts of their names and numbers.
func (s *segment) addThree(name string, number byte, to attachment) ([]*Host, error) {
	var hosts []*Host
	for i := byte(1); i <= 3; i++ {
		h, err := s.addHost(fmt.Sprintf("%s%d", name, i), number+i, to)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// Bound returns the hosts that have each floating address on eth0, as their kernels
// say.
func (hosts Hosts) Bound() (map[netip.Addr][]*Host, error) {
	bound := make(map[netip.Addr][]*Host)
	for _, h := range hosts.Servers {
		addrs, err := h.Bound()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if a != h.Addr && a != h.Addr6 {
				bound[a] = append(bound[a], h)
			}
		}
	}
	return bound, nil
}

// Owner returns the host that alone has an address bound and answers a client of
// that address. The error says what is not so.
func (hosts Hosts) Owner(addr netip.Addr, c *Client) (*Host, error) {
	bound, err := hosts.Bound()
	if err != nil {
		return nil, err
	}
	owners := bound[addr]
	if len(owners) != 1 {
		return nil, fmt.Errorf("%s is bound on %d hosts: %s", addr, len(owners), strings.Join(NamesOf(owners), ", "))
	}
	return owners[0], c.CheckAnsweredBy(owners[0])
}

// AwaitOwner waits until an address has an owner other than old, which may be nil,
// and returns the owner.
func (hosts Hosts) AwaitOwner(ctx context.Context, addr netip.Addr, c *Client, old *Host) (owner *Host, err error) {
	err = Await(ctx, func() error {
		if owner, err = hosts.Owner(addr, c); err != nil {
			return err
		}
		if owner == old {
			return fmt.Errorf("%s is still on %s", addr, old.Name)
		}
		return nil
	})
	return owner, err
}

// NamesOf returns the names of hosts, in their order.
func NamesOf(hosts []*Host) []string {
	var names []string
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	return names
}

// Neighbour returns the hardware address that the host's neighbour cache has for an
// address on eth0, or nil.
func (h *Host) Neighbour(addr netip.Addr) (net.HardwareAddr, error) {
	link, err := h.nl.LinkByName(serviceInterface)
	if err != nil {
		return nil, err
	}
	found, err := h.nl.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("neighbours of %s: %w", h.Name, err)
	}
	for _, n := range found {
		if n.IP.Equal(addr.AsSlice()) {
			return n.HardwareAddr, nil
		}
	}
	return nil, nil
}
