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
	// eventBuffer, in bytes, holds some thousand events while the receiver of Watch
	// is busy.
	eventBuffer = 4 << 20

	// dumpTries limits how often a dump starts again because the kernel's table
	// changed while it was being read.
	dumpTries = 10
)

// Host gives access to the interfaces and addresses of one network namespace.
// Create it with [Open]. Its fields do not change after that.
type Host struct {
	tag      Tag
	log      hclog.Logger
	requests map[int]*nl.SocketHandle // the socket has a lock of its own
	events   *socket.Conn             // read by Watch only
	ours     bindings                 // has a lock of its own
}

// Open opens the network namespace of the calling thread. The kernel collects
// events from here on, and Watch reports them. The logger receives what no caller
// gets as an error; it must not be nil. The caller must Close the Host.
//
// The addresses that it binds carry the tag. One with another tag counts as bound by
// another program.
func Open(t Tag, log hclog.Logger) (*Host, error) {
	return open(t, log, eventBuffer)
}

func open(t Tag, log hclog.Logger, buffer int) (*Host, error) {
	events, err := subscribe(buffer)
	if err != nil {
		return nil, fmt.Errorf("subscribe to rtnetlink events: %w", err)
	}
	requests, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a netlink socket: %w", err), events.Close())
	}
	// With extended acknowledgements the kernel adds a sentence to an error number.
	// Linux before 4.12 has none, which is no reason to fail.
	if err := requests.SetExtAck(true); err != nil {
		log.Debug("could not enable extended netlink errors", "error", err)
	}
	// With strict checking the kernel lists only the routes that a request asks for.
	// Linux before 4.20 has none, and lists all.
	if err := unix.SetsockoptInt(requests.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		log.Debug("could not enable strict netlink requests", "error", err)
	}
	return &Host{
		tag:      t,
		log:      log,
		requests: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: requests}},
		events:   events,
	}, nil
}

// subscribe opens one socket for the events of links, addresses and routes, so that
// all arrive in the kernel's order.
func subscribe(buffer int) (*socket.Conn, error) {
	c, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "rtnetlink", nil)
	if err != nil {
		return nil, err
	}
	// SetReadBuffer forces the size if the process may (CAP_NET_ADMIN). Otherwise
	// the kernel limits it (net.core.rmem_max). A smaller buffer loses events
	// earlier, and Watch reports the loss.
	if err := c.SetReadBuffer(buffer); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := ignoreRoutes(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	groups := []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}
	addr := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		addr.Groups |= 1 << (g - 1)
	}
	if err := c.Bind(addr); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close closes the sockets. Bound addresses stay until their lifetimes end. No other
// method may be running, except a Watch, which then ends with an error. Later calls
// return errors.
func (h *Host) Close() error {
	h.requests[unix.NETLINK_ROUTE].Close()
	return h.events.Close()
}

// execute sends one request and returns the messages of type reply that answer it.
func (h *Host) execute(req *nl.NetlinkRequest, reply uint16) ([][]byte, error) {
	req.Sockets = h.requests
	return req.Execute(unix.NETLINK_ROUTE, reply)
}

// dump executes a request that lists a table of the kernel. It starts again if the
// table changed meanwhile, because the list may then lack entries.
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
