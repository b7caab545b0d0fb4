package netif

import (
	"encoding/binary"

	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ignoreRoutes makes the kernel drop the events of all routes except default routes
// before they reach the socket: a routing daemon may change thousands at once.
func ignoreRoutes(c *socket.Conn) error {
	const (
		typeAt = 4                       // nlmsg_type in struct nlmsghdr
		bitsAt = unix.SizeofNlMsghdr + 1 // rtm_dst_len in struct rtmsg
		all    = 1<<32 - 1               // of a message's bytes
	)
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: typeAt, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: loaded(unix.RTM_NEWROUTE), SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: loaded(unix.RTM_DELROUTE), SkipTrue: 3},
		bpf.LoadAbsolute{Off: bitsAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: all},
	})
	if err != nil {
		return err
	}
	return c.SetBPF(program)
}

// loaded returns a message type as the filter loads it: filters read numbers in network
// byte order, and netlink writes them in the host's.
func loaded(typ uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, typ)))
}
