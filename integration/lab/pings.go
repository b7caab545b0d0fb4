package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// ethernetLen is the length of an Ethernet header.
const ethernetLen = 14

// family is how echo requests to the addresses of one family are sent and answered.
type family struct {
	has       func(netip.Addr) bool
	etherType uint16
	socket    func() (fd int, err error) // a raw socket that receives nothing itself
	request   icmp.Type
	to        func(netip.Addr) unix.Sockaddr

	// parse returns the source and the body of an echo reply in a frame.
	parse func(frame []byte) (source netip.Addr, echo *icmp.Echo, ok bool)
}

var families = []family{
	{
		has: netip.Addr.Is4, etherType: unix.ETH_P_IP, socket: socket4, request: ipv4.ICMPTypeEcho, parse: parse4,
		to: func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet4{Addr: a.As4()} },
	},
	{
		has: netip.Addr.Is6, etherType: unix.ETH_P_IPV6, socket: socket6, request: ipv6.ICMPTypeEchoRequest, parse: parse6,
		to: func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet6{Addr: a.As16()} },
	},
}

// The filters drop every type: the packet socket receives the answers.

func socket4() (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP); err != nil {
		return -1, err
	}
	return fd, unix.SetsockoptInt(fd, unix.SOL_RAW, unix.ICMP_FILTER, -1)
}

func socket6() (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6); err != nil {
		return -1, err
	}
	var none unix.ICMPv6Filter
	for i := range none.Data {
		none.Data[i] = 1<<32 - 1
	}
	return fd, unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &none)
}

func parse4(frame []byte) (source netip.Addr, echo *icmp.Echo, ok bool) {
	if len(frame) < ethernetLen+ipv4.HeaderLen {
		return source, nil, false
	}
	header, err := ipv4.ParseHeader(frame[ethernetLen:])
	if err != nil || header.Protocol != unix.IPPROTO_ICMP || len(frame) < ethernetLen+header.Len {
		return source, nil, false
	}
	source, _ = netip.AddrFromSlice(header.Src.To4())
	echo, ok = echoReply(unix.IPPROTO_ICMP, frame[ethernetLen+header.Len:], ipv4.ICMPTypeEchoReply)
	return source, echo, ok
}

func parse6(frame []byte) (source netip.Addr, echo *icmp.Echo, ok bool) {
	if len(frame) < ethernetLen+ipv6.HeaderLen {
		return source, nil, false
	}
	header, err := ipv6.ParseHeader(frame[ethernetLen:])
	if err != nil || header.NextHeader != unix.IPPROTO_ICMPV6 {
		return source, nil, false
	}
	source, _ = netip.AddrFromSlice(header.Src)
	echo, ok = echoReply(unix.IPPROTO_ICMPV6, frame[ethernetLen+ipv6.HeaderLen:], ipv6.ICMPTypeEchoReply)
	return source, echo, ok
}

func echoReply(protocol int, body []byte, reply icmp.Type) (echo *icmp.Echo, ok bool) {
	m, err := icmp.ParseMessage(protocol, body)
	if err != nil || m.Type != reply {
		return nil, false
	}
	echo, ok = m.Body.(*icmp.Echo)
	return echo, ok
}

// pings are the sockets of a host for the requests of a family and their answers.
type pings struct {
	family family
	sender int // raw socket
	wire   *packetSocket
}

func (h *Host) openPings(f family) (*pings, error) {
	p := &pings{family: f}
	var err error
	if p.wire, err = h.openPacket(serviceInterface, f.etherType); err != nil {
		return nil, err
	}
	err = h.ns.do(func() (err error) {
		p.sender, err = f.socket()
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raw socket: %w", err), p.wire.close())
	}
	return p, nil
}

// send sends one request.
func (p *pings) send(target netip.Addr, echo icmp.Echo) error {
	m := icmp.Message{Type: p.family.request, Body: &echo}
	packet, err := m.Marshal(nil) // the kernel adds the checksum of ICMPv6
	if err != nil {
		return err
	}
	return unix.Sendto(p.sender, packet, 0, p.family.to(target))
}
