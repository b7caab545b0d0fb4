package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The interfaces of a host: on the segment of the floating addresses, and in Consul's
// own network.
const (
	serviceInterface = "eth0"
	ConsulInterface  = "consul0"
)

// Host is one machine of the lab: a network namespace with an interface eth0 on the
// segment, and the processes that were started in it. All methods are safe for
// concurrent use.
type Host struct {
	Name  string
	Addr  netip.Addr       // of eth0, within Subnet; zero if there is no eth0, or no IPv4
	Addr6 netip.Addr       // of eth0, within Subnet6; zero if there is no eth0
	MAC   net.HardwareAddr // of eth0
	Dir   string           // for this host's files

	// Loopback is the address at which the host's Consul agent listens.
	Loopback netip.Addr

	// ConsulInterface and ConsulAddr are the interface and the address by which the
	// host's Consul agent speaks to others.
	ConsulInterface string
	ConsulAddr      netip.Addr

	dataDir   string // for the data of the Consul agent
	segment   *segment
	ns        *namespace
	nl        *netlink.Handle
	consulMAC net.HardwareAddr // of the interface in Consul's own network; nil: none
	gateway   *Host            // of the default routes; nil: none

	mu        sync.Mutex // guards all following fields
	processes []*Process
}

// build gives the host's new namespace its interfaces and addresses.
func (h *Host) build() error {
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return err
	}
	var err error
	if h.nl, err = h.ns.netlink(); err != nil {
		return err
	}
	if err := h.SetLink("lo", true); err != nil {
		return err
	}
	if h.MAC != nil {
		if err := h.AddInterface(serviceInterface, h.MAC); err != nil {
			return err
		}
		if err := h.addOwn(serviceInterface, h.Addr, h.Addr6); err != nil {
			return err
		}
	}
	if h.consulMAC != nil {
		if err := h.segment.plug(h, h.segment.consul, ConsulInterface, h.consulMAC); err != nil {
			return err
		}
		return h.addOwn(ConsulInterface, h.ConsulAddr)
	}
	return nil
}

// addOwn binds those of a host's own addresses that are valid and missing.
func (h *Host) addOwn(ifname string, addrs ...netip.Addr) error {
	for _, addr := range addrs {
		for _, subnet := range []netip.Prefix{Subnet, Subnet6, ConsulSubnet, ConsulSubnet6} {
			if !subnet.Contains(addr) {
				continue
			}
			if err := h.AddAddress(ifname, netip.PrefixFrom(addr, subnet.Bits())); !errors.Is(err, unix.EEXIST) && err != nil {
				return err
			}
		}
	}
	return nil
}

// AddInterface connects another interface of the host to the segment of the floating
// addresses and brings it up, without an address. When it returns, frames pass.
func (h *Host) AddInterface(name string, mac net.HardwareAddr) error {
	return h.segment.plug(h, h.segment.bridge, name, mac)
}

// RemoveInterface removes an interface that AddInterface added.
func (h *Host) RemoveInterface(name string) error {
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	return h.nl.LinkDel(link)
}

// SetLink brings an interface up or down, as "ip link set" does.
func (h *Host) SetLink(name string, up bool) error {
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return err
	}
	if !up {
		// The kernel removes the routes of the interface, and its IPv6 addresses.
		return h.nl.LinkSetDown(link)
	}
	if err := h.nl.LinkSetUp(link); err != nil || name != serviceInterface || !h.Addr6.IsValid() {
		return err
	}
	if err := h.addOwn(serviceInterface, h.Addr6); err != nil || h.gateway == nil {
		return err
	}
	return h.setGateway(h.gateway)
}

// setGateway gives the host default routes by eth0.
func (h *Host) setGateway(gateway *Host) error {
	h.gateway = gateway
	link, err := h.nl.LinkByName(serviceInterface)
	if err != nil {
		return err
	}
	for _, addr := range []netip.Addr{gateway.Addr, gateway.Addr6} {
		if !addr.IsValid() {
			continue
		}
		if err := h.nl.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: addr.AsSlice()}); err != nil {
			return fmt.Errorf("default route of %s: %w", h.Name, err)
		}
	}
	return nil
}

// AddAddress binds an address, as an administrator does by "ip addr add".
func (h *Host) AddAddress(ifname string, prefix netip.Prefix) error {
	return h.address(ifname, prefix, h.nl.AddrAdd)
}

// RemoveAddress removes an address, as an administrator does by "ip addr del".
func (h *Host) RemoveAddress(ifname string, prefix netip.Prefix) error {
	return h.address(ifname, prefix, h.nl.AddrDel)
}

func (h *Host) address(ifname string, prefix netip.Prefix, change func(netlink.Link, *netlink.Addr) error) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return err
	}
	mask := net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: mask}}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // the lab gives no address twice
	}
	if err := change(link, addr); err != nil {
		return fmt.Errorf("%s on %s of %s: %w", prefix, ifname, h.Name, err)
	}
	return nil
}

// SetSysctl sets a variable of the host's kernel, by a name below net such as
// "net/ipv4/conf/all/arp_ignore".
func (h *Host) SetSysctl(name, value string) error {
	return h.ns.do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644)
	})
}

// WriteFile writes a file into the host's directory and returns its path. The file
// is complete at any time, also where it replaces another. The name may contain
// directories, which are made where they are missing.
func (h *Host) WriteFile(name string, text []byte) (path string, err error) {
	path = filepath.Join(h.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	// consul-vip reads every *.hcl file of a directory, so the name ends differently.
	partial := path + ".partial"
	if err := os.WriteFile(partial, text, 0o644); err != nil {
		return "", err
	}
	return path, os.Rename(partial, path)
}

// Dial connects to an address as seen from the host, usually one of its loopback
// interface. It has the signature of DialContext in [net/http.Transport].
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.ns.dial(ctx, network, address)
}

// Listen opens a listener on the host.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	return h.ns.listen(network, address)
}

// close kills the host's processes and removes the host.
func (h *Host) close() error {
	h.mu.Lock()
	processes := h.processes
	h.processes = nil
	h.mu.Unlock()
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.Kill())
	}
	if h.nl != nil {
		h.nl.Close()
	}
	return errors.Join(append(errs, h.ns.close())...)
}
