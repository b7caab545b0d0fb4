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

// Subnet is the lab's only network. Hosts have addresses in 10.77.0.0/24, the
// observer asks from 10.77.254.0/24; the rest is free for floating addresses.
var Subnet = netip.MustParsePrefix("10.77.0.0/16")

// portTimeout is how long a new port may take until it forwards frames.
const portTimeout = 30 * time.Second

// segment is one Ethernet segment and the hosts on it. All methods are safe for
// concurrent use.
type segment struct {
	dir     string // for the hosts' files
	ownsDir bool   // close removes dir
	wire    *namespace
	wireNl  *netlink.Handle
	bridge  *netlink.Bridge

	mu    sync.Mutex // guards all following fields
	hosts []*Host
	names map[string]string // hardware address to name of its host
	ports int               // made so far, each with a name of its own
}

// newSegment builds a segment without hosts. If dir is empty, it makes a temporary
// directory. The error is a [fs.ErrPermission] if the process may not make network
// namespaces.
func newSegment(dir string) (*segment, error) {
	s := &segment{dir: dir, names: make(map[string]string)}
	if dir == "" {
		var err error
		if s.dir, err = os.MkdirTemp("", "consul-vip-lab-"); err != nil {
			return nil, err
		}
		s.ownsDir = true
	}
	if err := s.build(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// build makes the namespace with the bridge that joins the hosts.
func (s *segment) build() error {
	var err error
	if s.wire, err = newNamespace(); err != nil {
		return err
	}
	if s.wireNl, err = s.wire.netlink(); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "segment"
	// Without spanning tree, the kernel's default, a port forwards as soon as it
	// has a carrier.
	s.bridge = &netlink.Bridge{LinkAttrs: attrs}
	if err := s.wireNl.LinkAdd(s.bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return s.wireNl.LinkSetUp(s.bridge)
}

// addHost adds a host whose interface eth0 has the address 10.77.0.(10+number)
// and the hardware address 02:00:00:00:00:number. The number must be under 240.
func (s *segment) addHost(name string, number byte) (*Host, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{
		Name:    name,
		Addr:    netip.AddrFrom4([4]byte{10, 77, 0, 10 + number}),
		MAC:     net.HardwareAddr{2, 0, 0, 0, 0, number},
		Dir:     filepath.Join(s.dir, name),
		segment: s,
		ns:      ns,
	}
	s.mu.Lock()
	s.hosts = append(s.hosts, h) // from now on, close removes it
	s.mu.Unlock()
	if err := h.build(); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// plug connects a new interface of h to the segment, brings it up and waits until
// frames pass: the kernel reports a new carrier some time after the port is up and
// drops frames until then.
func (s *segment) plug(h *Host, ifname string, mac net.HardwareAddr) error {
	port, err := s.addPort(h, ifname, mac)
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
func (s *segment) addPort(h *Host, ifname string, mac net.HardwareAddr) (netlink.Link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	attrs := netlink.NewLinkAttrs()
	s.ports++
	attrs.Name = fmt.Sprintf("port%d", s.ports)
	attrs.MasterIndex = s.bridge.Attrs().Index
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
	if s.ownsDir {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}
