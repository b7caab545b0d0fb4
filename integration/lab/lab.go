// Package lab builds, on one machine and out of nothing but network
// namespaces, the small network that consul-vip is for: hosts on one Ethernet
// segment, each running a real Consul server; a client that sends an echo
// request to the floating address every millisecond; an observer that keeps
// asking who has it; and the means to do harm: forged ARP frames, firewalls,
// killed and frozen processes.
//
// It knows nothing of package testing, so that the demonstration can use it too.
// Whatever it starts ends with it, even if the process is killed.
package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
)

// Subnet is the lab's only network. Hosts have addresses in 10.77.0.0/24, the
// observer asks from 10.77.254.0/24; the rest is free for floating addresses.
var Subnet = netip.MustParsePrefix("10.77.0.0/16")

// Lab is one Ethernet segment and the hosts on it. All methods are safe for
// concurrent use.
type Lab struct {
	// Dir is the directory for configurations, Consul's data and logs.
	Dir string

	ownsDir bool
	wire    *namespace
	wireNl  *netlink.Handle
	bridge  *netlink.Bridge

	mu    sync.Mutex
	hosts []*Host
	names map[string]string // hardware address to name of its host
	ports int               // made so far, each with a name of its own
}

// New builds an empty segment. Files go below dir; where that is "", into a
// temporary directory that Close removes. The error is a [fs.ErrPermission] if
// the process may not make network namespaces; see Enter.
func New(dir string) (*Lab, error) {
	l := &Lab{Dir: dir, names: make(map[string]string)}
	if dir == "" {
		var err error
		if l.Dir, err = os.MkdirTemp("", "consul-vip-lab-"); err != nil {
			return nil, err
		}
		l.ownsDir = true
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// build makes the namespace with the bridge that is the segment.
func (l *Lab) build() error {
	var err error
	if l.wire, err = newNamespace(); err != nil {
		return err
	}
	if l.wireNl, err = l.wire.netlink(); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "segment"
	// Without spanning tree, the kernel's default, a new port forwards at once.
	l.bridge = &netlink.Bridge{LinkAttrs: attrs}
	if err := l.wireNl.LinkAdd(l.bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return l.wireNl.LinkSetUp(l.bridge)
}

// AddHost adds a host whose interface eth0 has the address 10.77.0.(10+number)
// and the hardware address 02:00:00:00:00:number. The number must be under 240.
func (l *Lab) AddHost(name string, number byte) (*Host, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{
		Name: name,
		Addr: netip.AddrFrom4([4]byte{10, 77, 0, 10 + number}),
		MAC:  net.HardwareAddr{2, 0, 0, 0, 0, number},
		Dir:  filepath.Join(l.Dir, name),
		lab:  l,
		ns:   ns,
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h) // from here on, Close takes care of it
	l.mu.Unlock()
	if err := h.build(); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// plug connects a new interface of h to the segment and brings it up.
func (l *Lab) plug(h *Host, ifname string, mac net.HardwareAddr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	attrs := netlink.NewLinkAttrs()
	l.ports++
	attrs.Name = fmt.Sprintf("port%d", l.ports)
	attrs.MasterIndex = l.bridge.Attrs().Index
	port := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         ifname,
		PeerHardwareAddr: mac,
		PeerNamespace:    netlink.NsFd(h.ns.handle),
	}
	if err := l.wireNl.LinkAdd(port); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	l.names[mac.String()] = h.Name
	if err := l.wireNl.LinkSetUp(port); err != nil {
		return err
	}
	return h.SetLink(ifname, true)
}

// NameOf returns the name of the host that mac belongs to, or mac itself if
// none of the lab's hosts has it.
func (l *Lab) NameOf(mac net.HardwareAddr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name, ok := l.names[mac.String()]; ok {
		return name
	}
	return mac.String()
}

// Close kills everything that still runs in the lab and removes the segment.
func (l *Lab) Close() error {
	l.mu.Lock()
	hosts := l.hosts
	l.hosts = nil
	l.mu.Unlock()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	if l.wireNl != nil {
		l.wireNl.Close()
	}
	if l.wire != nil {
		errs = append(errs, l.wire.close())
	}
	if l.ownsDir {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}

// Hosts is the usual cast of a lab.
type Hosts struct {
	Servers  []*Host // h1, h2, h3: where consul-vip and Consul run
	Client   *Host   // where the echo requests come from
	Observer *Host   // where the questions and the forged frames come from
}

// AddHosts adds the usual cast to the segment.
func (l *Lab) AddHosts() (Hosts, error) {
	var cast Hosts
	for number := byte(1); number <= 3; number++ {
		h, err := l.AddHost(fmt.Sprintf("h%d", number), number)
		if err != nil {
			return Hosts{}, err
		}
		cast.Servers = append(cast.Servers, h)
	}
	var err error
	if cast.Client, err = l.AddHost("client", 40); err != nil {
		return Hosts{}, err
	}
	cast.Observer, err = l.AddHost("observer", 50)
	return cast, err
}
