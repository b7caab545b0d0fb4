package netif

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// route is one route, as the kernel lists it.
type route struct {
	bits   int    // prefix length of the destination; 0: a default route
	table  uint32 // RT_TABLE_*
	metric uint32
	hops   []hop
}

// hop is one next hop of a route.
type hop struct {
	index   int        // of the interface
	gateway netip.Addr // zero: the destinations are on the link
}

// defaultRoutes lists the default routes of a family through an interface, of all tables.
func (h *Host) defaultRoutes(ifindex, family int) ([]route, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Type: unix.RTN_UNICAST}})
	// Without strict checking the kernel ignores both conditions and lists all routes.
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(ifindex))))
	msgs, err := h.dump(req, unix.RTM_NEWROUTE)
	if errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%w: index %d", ErrNoInterface, ifindex)
	}
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	var routes []route
	for _, m := range msgs {
		if len(m) > unix.SizeofRtMsg && (int(m[0]) != family || m[1] != 0 || m[7] != unix.RTN_UNICAST) {
			continue
		}
		r, err := parseRoute(m)
		if err != nil {
			return nil, err
		}
		routes = append(routes, r)
	}
	return routes, nil
}

// gateway returns the next hop of the best of these routes through an interface. It
// returns the zero Addr if none has one.
func gateway(routes []route, ifindex int) netip.Addr {
	routes = slices.Clone(routes)
	slices.SortStableFunc(routes, func(a, b route) int {
		other := func(r route) uint32 { return r.table ^ unix.RT_TABLE_MAIN } // 0 is best
		return cmp.Or(cmp.Compare(other(a), other(b)), cmp.Compare(a.metric, b.metric))
	})
	for _, r := range routes {
		for _, hop := range r.hops {
			if hop.index == ifindex && hop.gateway.IsValid() {
				return hop.gateway
			}
		}
	}
	return netip.Addr{}
}

// parseRoute reads the payload of an RTM_NEWROUTE or RTM_DELROUTE message.
func parseRoute(m []byte) (route, error) {
	if len(m) < unix.SizeofRtMsg {
		return route{}, fmt.Errorf("a route message of %d bytes is too short", len(m))
	}
	r := route{bits: int(m[1]), table: uint32(m[4])}
	single, several := hop{}, []byte(nil)
	err := eachAttr(m[unix.SizeofRtMsg:], func(typ uint16, value []byte) {
		switch typ {
		case unix.RTA_TABLE:
			r.table = number(value)
		case unix.RTA_PRIORITY:
			r.metric = number(value)
		case unix.RTA_OIF:
			single.index = int(number(value))
		case unix.RTA_GATEWAY:
			single.gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_MULTIPATH:
			several = value
		}
	})
	if err != nil {
		return route{}, err
	}
	if several == nil {
		r.hops = []hop{single}
		return r, nil
	}
	r.hops, err = parseHops(several)
	return r, err
}

// parseHops reads the next hops of a route that has several: each is a struct rtnexthop
// of linux/rtnetlink.h with attributes of its own.
func parseHops(b []byte) ([]hop, error) {
	var hops []hop
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, fmt.Errorf("a next hop of %d bytes does not fit in the remaining %d", size, len(b))
		}
		one := hop{index: int(number(b[4:8]))}
		err := eachAttr(b[unix.SizeofRtNexthop:size], func(typ uint16, value []byte) {
			if typ == unix.RTA_GATEWAY {
				one.gateway, _ = netip.AddrFromSlice(value)
			}
		})
		if err != nil {
			return nil, err
		}
		hops = append(hops, one)
		b = b[min(align(size), len(b)):]
	}
	return hops, nil
}
