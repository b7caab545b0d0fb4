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
	// maxPayload is how much of a frame is read. ARP takes 28 bytes, padded to 46, and the
	// messages of neighbor discovery 64 and their options, so a longer one is nonsense.
	maxPayload = 512

	// receiveBuffer holds the answers to several thousand concurrent probes, where the
	// default size holds about 250. A small frame occupies up to 1 KiB of it.
	receiveBuffer = 4 << 20

	// goneInterval is the pause between two checks whether an interface that is down
	// still exists.
	goneInterval = 200 * time.Millisecond
)

// A packetSocket is an AF_PACKET socket for ARP or neighbor discovery of the datagram
// kind: the kernel adds and removes the Ethernet header. So the source is always the
// current MAC of the interface, VLAN tags need no handling, and the driver pads short
// frames to 60 bytes, as it does for the ARP of the kernel.
type packetSocket struct {
	conn      *packet.Conn
	raw       syscall.RawConn
	ifindex   int
	etherType uint16
	closed    atomic.Bool
	busy      atomic.Bool // a frame is being read, or the last one is not processed yet

	// The reader goroutine owns all following fields.
	oob  [64]byte // control messages of the last frame
	down bool     // no frame has come since the link went down
}

// openPacketSocket opens a socket on an interface in the network namespace of the
// calling thread.
func openPacketSocket(ifi *net.Interface, f Family) (*packetSocket, error) {
	var config packet.Config
	if f == IPv6 {
		config.Filter = ndpFilter
	}
	etherType := protocols[f].etherType
	conn, err := packet.Listen(ifi, packet.Datagram, int(etherType), &config)
	if err != nil {
		return nil, err
	}
	s := &packetSocket{conn: conn, ifindex: ifi.Index, etherType: etherType}
	if s.raw, err = conn.SyscallConn(); err == nil {
		err = s.control(func(fd int) error {
			// A large buffer needs CAP_NET_ADMIN. The default works too.
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

func (s *packetSocket) Close() error {
	s.closed.Store(true)
	return s.conn.Close()
}

// Receive implements [Socket]. ErrClosed and ErrInterfaceGone are permanent.
func (s *packetSocket) Receive(b []byte) (Inbound, error) {
	for {
		in, err := s.recvmsg(b)
		switch {
		case s.closed.Load():
			return Inbound{}, ErrClosed
		case err == nil && s.down:
			s.down = false
			return in, s.conn.SetReadDeadline(time.Time{})
		case err == nil:
			return in, nil
		case !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, os.ErrDeadlineExceeded):
			return Inbound{}, err
		case s.gone():
			return Inbound{}, ErrInterfaceGone
		}
		// The kernel reports once that the link is down. It does not report that an
		// interface is deleted while it is down, so check at intervals.
		s.down = true
		if derr := s.conn.SetReadDeadline(time.Now().Add(goneInterval)); derr != nil {
			return Inbound{}, derr
		}
		if errors.Is(err, unix.ENETDOWN) {
			return Inbound{}, err
		}
	}
}

// recvmsg blocks until the next frame or the read deadline.
func (s *packetSocket) recvmsg(b []byte) (Inbound, error) {
	var (
		n, oobn int
		from    unix.Sockaddr
		err     error
	)
	waitErr := s.raw.Read(func(fd uintptr) bool {
		s.busy.Store(true) // before the frame leaves the socket, see Idle
		err = unix.EINTR
		for err == unix.EINTR {
			n, oobn, _, from, err = unix.Recvmsg(int(fd), b, s.oob[:], unix.MSG_DONTWAIT)
		}
		s.busy.Store(err != unix.EAGAIN)
		return err != unix.EAGAIN
	})
	switch {
	case waitErr != nil:
		return Inbound{}, waitErr
	case err != nil:
		return Inbound{}, os.NewSyscallError("recvmsg", err)
	}
	in := Inbound{Payload: b[:n], Received: receiveTime(s.oob[:oobn], time.Now())}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		// Such a frame arrives in promiscuous mode, or has a VLAN tag that no interface
		// here has. The ARP of the kernel ignores it too.
		in.Elsewhere = ll.Pkttype == unix.PACKET_OTHERHOST
		in.From = append(in.From, ll.Addr[:min(int(ll.Halen), len(ll.Addr))]...)
	}
	return in, nil
}

// Idle implements [Socket]. A frame moves from the socket to the receiver, so Idle
// checks them in this order.
func (s *packetSocket) Idle() bool {
	waiting := 1
	err := s.control(func(fd int) (err error) {
		waiting, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err
	})
	return err == nil && waiting == 0 && !s.busy.Load()
}

// gone reports whether the interface was unregistered. The kernel has then unbound
// the socket, which receives nothing any more.
func (s *packetSocket) gone() bool {
	var sa unix.Sockaddr
	err := s.control(func(fd int) (err error) {
		sa, err = unix.Getsockname(fd)
		return err
	})
	ll, ok := sa.(*unix.SockaddrLinklayer)
	return err == nil && ok && ll.Ifindex != s.ifindex
}

// Send implements [Socket].
func (s *packetSocket) Send(f Outbound) error {
	to := unix.SockaddrLinklayer{
		Protocol: networkOrder(s.etherType),
		Ifindex:  s.ifindex,
		Halen:    uint8(len(f.To)),
	}
	copy(to.Addr[:], f.To)
	return s.control(func(fd int) error {
		if err := running(fd, s.ifindex); err != nil {
			return err
		}
		return os.NewSyscallError("sendto", unix.Sendto(fd, f.Payload, unix.MSG_DONTWAIT, &to))
	})
}

// running returns an error if the link is not running (no carrier). The kernel would
// then accept a frame and drop it, and the probe would count as unanswered. The check
// takes two system calls, about 1 µs.
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

// control calls f with the file descriptor, which stays open during the call. The
// error is ErrClosed if the socket is closed.
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

// networkOrder returns v in network byte order, as a sockaddr_ll needs it.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
