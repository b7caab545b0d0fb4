// Package netif is the kernel's side of a floating address: it finds the
// interface, binds and unbinds addresses that expire by themselves, and reports
// what happens to them and to the links.
//
// Every address it binds has a lifetime, so that the kernel takes it away from
// a process that was killed, is frozen or hangs. Every address it binds carries
// a tag, the address protocol 118 (IFA_PROTO, Linux 5.18 and newer; recent
// versions of "ip address" show it as "proto 0x76"), so that a later process
// can tell what its predecessor left behind from what others own. An older
// kernel silently drops the tag: there a leftover looks foreign, and binding is
// refused until it has expired, a few seconds later.
package netif

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// eventBuffer holds some thousand events, for a reader that is kept waiting.
	eventBuffer = 4 << 20

	// dumpTries bounds how often a dump starts over because the kernel's table
	// changed while it was being read.
	dumpTries = 10
)

// Host is the kernel's interfaces and addresses, as one network namespace sees
// them. Its methods may be called by several goroutines; requests are served
// one at a time.
type Host struct {
	log      hclog.Logger
	requests map[int]*nl.SocketHandle
	events   *socket.Conn
}

// Open opens the network namespace of the calling thread; what the Host does
// later, on whichever thread, happens there. It starts nothing. Events are
// collected from here on, for Watch to report. log takes what no caller is
// told; it must not be nil.
func Open(log hclog.Logger) (*Host, error) {
	return open(log, eventBuffer)
}

func open(log hclog.Logger, buffer int) (*Host, error) {
	events, err := subscribe(buffer)
	if err != nil {
		return nil, fmt.Errorf("subscribe to rtnetlink events: %w", err)
	}
	requests, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a netlink socket: %w", err), events.Close())
	}
	// Without it, an error is a bare number: the kernel's sentence says more.
	// Linux before 4.12 has none, and that is no reason to fail.
	if err := requests.SetExtAck(true); err != nil {
		log.Debug("the kernel does not explain its netlink errors", "error", err)
	}
	return &Host{
		log:      log,
		requests: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: requests}},
		events:   events,
	}, nil
}

// subscribe opens one socket for the events of links and addresses, so that
// they keep the kernel's order among each other.
func subscribe(buffer int) (*socket.Conn, error) {
	c, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "rtnetlink", nil)
	if err != nil {
		return nil, err
	}
	// It forces the size where the process may, and asks for it otherwise. A
	// smaller buffer loses events earlier, which Watch reports.
	if err := c.SetReadBuffer(buffer); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	groups := []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}
	addr := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		addr.Groups |= 1 << (g - 1)
	}
	if err := c.Bind(addr); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close closes the Host; a Watch that runs ends with an error. The addresses
// stay until their lifetimes end.
func (h *Host) Close() error {
	h.requests[unix.NETLINK_ROUTE].Close()
	return h.events.Close()
}

// execute sends one request over the Host's socket and returns the messages of
// type reply that answer it.
func (h *Host) execute(req *nl.NetlinkRequest, reply uint16) ([][]byte, error) {
	req.Sockets = h.requests
	return req.Execute(unix.NETLINK_ROUTE, reply)
}

// dump is execute for a dump: it starts over when the table changed under it.
func (h *Host) dump(req *nl.NetlinkRequest, reply uint16) ([][]byte, error) {
	var err error
	for range dumpTries {
		var msgs [][]byte
		msgs, err = h.execute(req, reply)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
	}
	return nil, err
}
