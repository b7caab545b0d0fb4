package netif

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ndmsgLen is the size of struct ndmsg of linux/neighbour.h: the family, three bytes of
// padding, the interface in four, the state in two, flags and type.
const ndmsgLen = 12

// Attributes of a neighbor entry (linux/neighbour.h), which golang.org/x/sys/unix lacks.
const (
	ndaDst    = 1
	ndaLLAddr = 2
)

// usableStates are the states in which the kernel sends packets to a neighbor entry's MAC
// (NUD_VALID in linux/neighbour.h).
const usableStates = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_PROBE | unix.NUD_STALE | unix.NUD_DELAY

// Neighbor returns the MAC to which this host sends packets for addr through the interface
// ifindex, as its neighbor table says. It is nil if the table has no such entry.
func (h *Host) Neighbor(ifindex int, addr netip.Addr) (net.HardwareAddr, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	header := make(neighborHeader, ndmsgLen)
	header[0] = byte(family(addr))
	req.AddData(header)
	msgs, err := h.dump(req, unix.RTM_NEWNEIGH)
	if err != nil {
		return nil, fmt.Errorf("list the neighbor table: %w", err)
	}
	for _, m := range msgs {
		n, err := parseNeighbor(m)
		if err != nil {
			return nil, err
		}
		if n.index == ifindex && n.addr == addr && n.usable {
			return n.mac, nil
		}
	}
	return nil, nil
}

// neighborHeader is a struct ndmsg in a request.
type neighborHeader []byte

func (h neighborHeader) Len() int          { return len(h) }
func (h neighborHeader) Serialize() []byte { return h }

// neighbor is an entry of the neighbor table.
type neighbor struct {
	index  int // of the interface
	addr   netip.Addr
	mac    net.HardwareAddr
	usable bool
}

// parseNeighbor reads the payload of an RTM_NEWNEIGH message.
func parseNeighbor(m []byte) (neighbor, error) {
	if len(m) < ndmsgLen {
		return neighbor{}, fmt.Errorf("a neighbor message of %d bytes is too short", len(m))
	}
	n := neighbor{
		index:  int(binary.NativeEndian.Uint32(m[4:])),
		usable: binary.NativeEndian.Uint16(m[8:])&usableStates != 0,
	}
	err := eachAttr(m[ndmsgLen:], func(typ uint16, value []byte) {
		switch typ {
		case ndaDst:
			n.addr, _ = netip.AddrFromSlice(value)
		case ndaLLAddr:
			n.mac = slices.Clone(value)
		}
	})
	n.usable = n.usable && len(n.mac) == 6
	return n, err
}
