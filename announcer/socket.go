package announcer

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

const (
	macLen = 6

	// maxPayload is the most of a frame that is looked at: ARP takes 28 bytes,
	// padded to 46; what is longer is cut off.
	maxPayload = 128

	// receiveBuffer holds the answers to some thousand questions asked at once
	// (an ARP frame occupies up to 1 KiB of it), where the default holds some 250.
	receiveBuffer = 4 << 20

	// goneInterval is how often to look whether an interface that is down is
	// still there.
	goneInterval = 200 * time.Millisecond
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A socket is where frames come from and go to, without their Ethernet header.
type socket interface {
	// receive waits for the next frame. Its payload is stored in b.
	receive(b []byte) (inbound, error)

	// idle reports whether the receiver waits for the next frame, having dealt
	// with everything that the kernel has received until now.
	idle() bool

	// send never waits: what cannot be sent at once is an error.
	send(outbound) error

	// close makes receive return, and may be called any number of times.
	close() error
}

type inbound struct {
	payload   []byte
	received  time.Time // by the kernel; monotonic
	elsewhere bool      // addressed to another host, or on a VLAN not ours
}

type outbound struct {
	to      net.HardwareAddr
	payload []byte
}

// A packetSocket is an AF_PACKET socket for ARP. It is of the datagram kind: the
// kernel puts the Ethernet header on and takes it off, so the source is the
// interface's MAC even in the moment it changes, VLAN tags are not our business,
// and padding to the 60 bytes of the shortest frame is left to the driver, as
// with the kernel's own ARP.
type packetSocket struct {
	conn    *packet.Conn
	raw     syscall.RawConn
	ifindex int
	closed  atomic.Bool
	busy    atomic.Bool // the receiver takes a frame, or has not come back for the next

	// Of the one goroutine that receives.
	oob  [64]byte // control messages
	down bool     // no frame came since the link went down
}

func openPacketSocket(ifi *net.Interface) (*packetSocket, error) {
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ARP, nil)
	if err != nil {
		return nil, err
	}
	s := &packetSocket{conn: conn, ifindex: ifi.Index}
	if s.raw, err = conn.SyscallConn(); err == nil {
		err = s.control(func(fd int) error {
			// The buffer is a wish; without CAP_NET_ADMIN the default must do.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
			err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
			return os.NewSyscallError("setsockopt SO_TIMESTAMPNS", err)
		})
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func (s *packetSocket) close() error {
	s.closed.Store(true)
	return s.conn.Close()
}

// receive implements socket. ErrClosed and ErrInterfaceGone are final.
func (s *packetSocket) receive(b []byte) (inbound, error) {
	for {
		in, err := s.recvmsg(b)
		switch {
		case s.closed.Load():
			return inbound{}, ErrClosed
		case err == nil && s.down:
			s.down = false
			return in, s.conn.SetReadDeadline(time.Time{})
		case err == nil:
			return in, nil
		case !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, os.ErrDeadlineExceeded):
			return inbound{}, err
		case s.gone():
			return inbound{}, ErrInterfaceGone
		}
		// That the link is down the kernel says once, that an interface which is
		// down is deleted it does not say at all: look from time to time.
		s.down = true
		if derr := s.conn.SetReadDeadline(time.Now().Add(goneInterval)); derr != nil {
			return inbound{}, derr
		}
		if errors.Is(err, unix.ENETDOWN) {
			return inbound{}, err
		}
	}
}

// recvmsg waits for one frame.
func (s *packetSocket) recvmsg(b []byte) (inbound, error) {
	var (
		n, oobn int
		from    unix.Sockaddr
		err     error
	)
	waitErr := s.raw.Read(func(fd uintptr) bool {
		s.busy.Store(true) // before the frame leaves the socket, for idle
		err = unix.EINTR
		for err == unix.EINTR {
			n, oobn, _, from, err = unix.Recvmsg(int(fd), b, s.oob[:], unix.MSG_DONTWAIT)
		}
		s.busy.Store(err != unix.EAGAIN)
		return err != unix.EAGAIN
	})
	switch {
	case waitErr != nil:
		return inbound{}, waitErr
	case err != nil:
		return inbound{}, os.NewSyscallError("recvmsg", err)
	}
	in := inbound{payload: b[:n], received: stamped(s.oob[:oobn], time.Now())}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		// The kernel's ARP pays no heed to such frames either: they come with
		// promiscuous mode, or carry a VLAN tag that no interface here has.
		in.elsewhere = ll.Pkttype == unix.PACKET_OTHERHOST
	}
	return in, nil
}

// idle implements socket. A frame is first in the socket and then with the
// receiver, so it is looked for in this order.
func (s *packetSocket) idle() bool {
	waiting := 1
	err := s.control(func(fd int) (err error) {
		waiting, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err
	})
	return err == nil && waiting == 0 && !s.busy.Load()
}

// stamped returns when the kernel received the frame, as a monotonic time: its
// stamp is of the wall clock, which may be set, so only the frame's age, a few
// microseconds, is taken from it. Without a stamp, or with one from the future,
// the frame is new.
func stamped(oob []byte, now time.Time) time.Time {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS_NEW && len(data) >= 16 {
			sec := int64(binary.NativeEndian.Uint64(data))
			nsec := int64(binary.NativeEndian.Uint64(data[8:]))
			return now.Add(-max(0, now.Sub(time.Unix(sec, nsec))))
		}
		oob = rest
	}
	return now
}

// gone reports whether the interface was unregistered: the kernel has then
// unbound the socket, which would stay silent for ever.
func (s *packetSocket) gone() bool {
	var sa unix.Sockaddr
	err := s.control(func(fd int) (err error) {
		sa, err = unix.Getsockname(fd)
		return err
	})
	ll, ok := sa.(*unix.SockaddrLinklayer)
	return err == nil && ok && ll.Ifindex != s.ifindex
}

// send implements socket.
func (s *packetSocket) send(f outbound) error {
	to := unix.SockaddrLinklayer{
		Protocol: networkOrder(unix.ETH_P_ARP),
		Ifindex:  s.ifindex,
		Halen:    uint8(len(f.to)),
	}
	copy(to.Addr[:], f.to)
	return s.control(func(fd int) error {
		if err := running(fd, s.ifindex); err != nil {
			return err
		}
		return os.NewSyscallError("sendto", unix.Sendto(fd, f.payload, unix.MSG_DONTWAIT, &to))
	})
}

// running returns an error unless the link can carry frames. Without a carrier
// sendto succeeds and the frame is dropped unseen, and a question that nobody
// could hear would pass for unanswered. Costs two system calls, about 1 µs.
func running(fd, ifindex int) error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(ifindex))
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr); err != nil {
		return os.NewSyscallError("ioctl SIOCGIFNAME", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return os.NewSyscallError("ioctl SIOCGIFFLAGS", err)
	}
	if ifr.Uint16()&unix.IFF_RUNNING == 0 {
		return unix.ENETDOWN
	}
	return nil
}

// control runs f on the descriptor, which stays open meanwhile.
func (s *packetSocket) control(f func(fd int) error) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		if s.closed.Load() {
			return ErrClosed
		}
		return cerr
	}
	return err
}

// networkOrder returns v as the kernel wants it in a sockaddr_ll.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
