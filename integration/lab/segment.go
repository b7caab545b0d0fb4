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
	"time"

	"github.com/vishvananda/netlink"
)

// Subnet is the network of the floating addresses. Hosts have addresses in
// 10.77.0.0/24, the observer asks from 10.77.254.0/24; the rest is free for floating
// addresses.
var Subnet = netip.MustParsePrefix("10.77.0.0/16")

// Subnet6 is the network of the floating IPv6 addresses. Hosts have addresses in
// fd77::/112; the rest is free for floating addresses.
var Subnet6 = netip.MustParsePrefix("fd77::/64")

// ConsulSubnet and ConsulSubnet6 are Consul's network where it has one of its own. It has
// IPv4 addresses, unless no machine has any.
var (
	ConsulSubnet  = netip.MustParsePrefix("10.78.0.0/24")
	ConsulSubnet6 = netip.MustParsePrefix("fd78::/64")
)

// portTimeout is how long a new port may take until it forwards frames.
const portTimeout = 30 * time.Second

// segment is one Ethernet segment and the hosts on it. If Consul has a network of its
// own, that is a second segment with the same hosts. All methods are safe for
// concurrent use.
type segment struct {
	config  ClusterConfig
	dir     string   // for the hosts' files
	data    string   // for the data of Consul's agents
	ownDirs []string // close removes them
	wire    *namespace
	wireNl  *netlink.Handle
	bridge  *netlink.Bridge
	consul  *netlink.Bridge // of Consul's own network; nil if it has none

	mu    sync.Mutex // guards all following fields
	hosts []*Host
	names map[string]string // hardware address to name of its host
	ports int               // made so far, each with a name of its own
}

// newSegment builds a segment without hosts, and one for Consul if that has a network
// of its own. If dir is empty, newSegment makes a temporary directory. The error is a
// [fs.ErrPermission] if the process may not make network namespaces.
func newSegment(dir string, c ClusterConfig) (*segment, error) {
	s := &segment{config: c, dir: dir, names: make(map[string]string)}
	if err := errors.Join(s.makeDirs(), s.build()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// build makes the namespace with the bridges that join the hosts.
func (s *segment) build() (err error) {
	if s.wire, err = newNamespace(); err != nil {
		return err
	}
	if s.wireNl, err = s.wire.netlink(); err != nil {
		return err
	}
	if s.bridge, err = s.addBridge("segment"); err != nil {
		return err
	}
	if s.config.ConsulNetwork {
		s.consul, err = s.addBridge("consul")
	}
	return err
}

// addBridge makes a bridge. Without spanning tree, the kernel's default, a port
// forwards as soon as it has a carrier.
func (s *segment) addBridge(name string) (*netlink.Bridge, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := s.wireNl.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", name, err)
	}
	return bridge, s.wireNl.LinkSetUp(bridge)
}

// attachment says to which segments a host is connected.
type attachment struct {
	service bool // by eth0: to the segment of the floating addresses
	consul  bool // to Consul's, which is the same one unless Consul has its own
}

// addHost adds a host. On the segment of the floating addresses, its interface eth0 has
// the addresses 10.77.0.(10+number) and fd77::(10+number), and the hardware address
// 02:00:00:00:00:number. In Consul's own network, [ConsulInterface] has 10.78.0.(10+number)
// and 02:00:00:00:02:number. The number must be under 240.
func (s *segment) addHost(name string, number byte, to attachment) (*Host, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, Dir: filepath.Join(s.dir, name), dataDir: filepath.Join(s.data, name), Loopback: netip.AddrFrom4([4]byte{127, 0, 0, 1}), segment: s, ns: ns}
	s.mu.Lock()
	s.hosts = append(s.hosts, h) // from now on, close removes it
	s.mu.Unlock()
	if to.service || to.consul && s.consul == nil {
		h.Addr, h.Addr6 = hostAddr(Subnet, number), hostAddr(Subnet6, number)
		h.MAC = net.HardwareAddr{2, 0, 0, 0, 0, number}
	}
	switch {
	case to.consul && s.consul == nil:
		h.ConsulInterface, h.ConsulAddr = serviceInterface, h.Addr
	case to.consul:
		h.ConsulInterface, h.ConsulAddr = ConsulInterface, hostAddr(ConsulSubnet, number)
		h.consulMAC = net.HardwareAddr{2, 0, 0, 0, 2, number}
	}
	if s.config.IPv6Only {
		h.useIPv6(number)
	}
	if err := h.build(); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// useIPv6 takes the IPv4 addresses away from a host that is not built yet.
func (h *Host) useIPv6(number byte) {
	h.Addr, h.Loopback = netip.Addr{}, netip.IPv6Loopback()
	switch h.ConsulInterface {
	case ConsulInterface:
		h.ConsulAddr = hostAddr(ConsulSubnet6, number)
	case serviceInterface:
		h.ConsulAddr = h.Addr6
	}
}

// hostAddr returns the address of the host with this number in a network.
func hostAddr(network netip.Prefix, number byte) netip.Addr {
	a := network.Addr().AsSlice()
	a[len(a)-1] = 10 + number
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

// plug connects a new interface of h to a bridge, brings it up and waits until frames
// pass: the kernel reports a new carrier some time after the port is up and drops
// frames until then.
func (s *segment) plug(h *Host, bridge *netlink.Bridge, ifname string, mac net.HardwareAddr) error {
	port, err := s.addPort(h, bridge, ifname, mac)
	if err != nil {
		return err
	}
	if err := s.wireNl.LinkSetUp(port); err != nil {
		return err
	}
	if err := h.SetLink(ifname, true); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), portTimeout)
	defer cancel()
	return Await(ctx, func() error {
		return errors.Join(operational(s.wireNl, port.Attrs().Name), operational(h.nl, ifname))
	})
}

// addPort makes a pair of interfaces: one is a port of the bridge, the other one is
// the host's. Neither is up yet.
func (s *segment) addPort(h *Host, bridge *netlink.Bridge, ifname string, mac net.HardwareAddr) (netlink.Link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	attrs := netlink.NewLinkAttrs()
	s.ports++
	attrs.Name = fmt.Sprintf("port%d", s.ports)
	attrs.MasterIndex = bridge.Attrs().Index
	port := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         ifname,
		PeerHardwareAddr: mac,
		PeerNamespace:    netlink.NsFd(h.ns.handle),
	}
	if err := s.wireNl.LinkAdd(port); err != nil {
		return nil, fmt.Errorf("veth: %w", err)
	}
	s.names[mac.String()] = h.Name
	return port, nil
}

// operational returns an error unless the kernel takes the interface for
// operational (RFC 2863).
func operational(nl *netlink.Handle, ifname string) error {
	link, err := nl.LinkByName(ifname)
	if err != nil {
		return err
	}
	if state := link.Attrs().OperState; state != netlink.OperUp {
		return fmt.Errorf("%s is %s", ifname, state)
	}
	return nil
}

// nameOf returns the name of the host that has this hardware address, or the
// address itself if none of the lab's hosts has it.
func (s *segment) nameOf(mac net.HardwareAddr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := s.names[mac.String()]; ok {
		return name
	}
	return mac.String()
}

// close kills every process that still runs on a host and removes the segment.
func (s *segment) close() error {
	s.mu.Lock()
	hosts := s.hosts
	s.hosts = nil
	s.mu.Unlock()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	if s.wireNl != nil {
		s.wireNl.Close()
	}
	if s.wire != nil {
		errs = append(errs, s.wire.close())
	}
	for _, dir := range s.ownDirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
