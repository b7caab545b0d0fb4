package announcer

import (
	"errors"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// groups are the multicast groups of an interface that a Wire is a member of. A packet
// socket hears whatever arrives, but a switch that snoops (RFC 4541), and the interface
// itself, pass on only what somebody has asked for. It is safe for concurrent use.
type groups struct {
	ifindex int

	mu      sync.Mutex // guards all following fields
	fd      int        // of a socket that receives nothing itself; -1: closed
	members map[netip.Addr]int
}

// openGroups opens the groups of an interface in the network namespace of the calling
// thread.
func openGroups(ifindex int) (*groups, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &groups{ifindex: ifindex, fd: fd, members: map[netip.Addr]int{}}, nil
}

// join makes the host a member of a group until leave is called as often as join.
func (g *groups) join(group netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members[group]++; g.members[group] > 1 || g.fd < 0 {
		return nil
	}
	return g.set(unix.IPV6_JOIN_GROUP, group)
}

func (g *groups) leave(group netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members[group]--; g.members[group] > 0 || g.fd < 0 {
		return nil
	}
	delete(g.members, group)
	err := g.set(unix.IPV6_LEAVE_GROUP, group)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil // it could not be joined, or the interface is gone
	}
	return err
}

func (g *groups) set(option int, group netip.Addr) error {
	m := &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.ifindex)}
	return os.NewSyscallError("setsockopt", unix.SetsockoptIPv6Mreq(g.fd, unix.IPPROTO_IPV6, option, m))
}

// Close leaves all groups. It may be called more than once.
func (g *groups) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd < 0 {
		return nil
	}
	err := unix.Close(g.fd)
	g.fd = -1
	return err
}
