package lab

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is how many bytes the kernel may hold for a packet socket: many
// seconds of the lab's traffic, so that no packet is lost because the machine is
// busy.
const receiveBuffer = 4 << 20

// packetSocket sends and receives complete Ethernet frames of one EtherType on one
// interface. A received frame comes with the time at which the kernel received it.
type packetSocket struct {
	file *os.File
	raw  syscall.RawConn
}

// openPacket opens a packet socket on an interface of the host. It receives frames
// addressed to this host or to all hosts, but none that the host itself sends.
func (h *Host) openPacket(ifname string, etherType uint16) (*packetSocket, error) {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return nil, err
	}
	var fd int
	err = h.ns.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packet socket on %s: %w", h.Name, err)
	}
	s := &packetSocket{file: os.NewFile(uintptr(fd), "packet")}
	if err := s.setup(fd, link.Attrs().Index, etherType); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("packet socket on %s: %w", h.Name, err)
	}
	return s, nil
}

func (s *packetSocket) setup(fd, ifindex int, etherType uint16) (err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		// A user namespace may not allow that. Then the system's limit applies.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return err
		}
	}
	// The socket receives frames as soon as it is bound, so this comes last.
	protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherType))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: ifindex}); err != nil {
		return err
	}
	s.raw, err = s.file.SyscallConn()
	return err
}

// read waits for the next frame. After close it returns an error.
func (s *packetSocket) read(buf []byte) (frame []byte, at time.Time, err error) {
	var oob [128]byte
	var n, oobn int
	var recvErr error
	err = s.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), buf, oob[:], 0)
		return recvErr != unix.EAGAIN
	})
	if err == nil {
		err = recvErr
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return buf[:n], timestamp(oob[:oobn]), nil
}

// timestamp returns the kernel's time stamp in a message's control data.
func timestamp(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Type == unix.SO_TIMESTAMPNS_NEW && len(m.Data) >= 16 {
			seconds := binary.NativeEndian.Uint64(m.Data)
			nanoseconds := binary.NativeEndian.Uint64(m.Data[8:])
			return time.Unix(int64(seconds), int64(nanoseconds))
		}
	}
	return time.Now()
}

// write sends one frame.
func (s *packetSocket) write(frame []byte) error {
	var sendErr error
	err := s.raw.Write(func(fd uintptr) bool {
		_, sendErr = unix.Write(int(fd), frame)
		return sendErr != unix.EAGAIN
	})
	if err == nil {
		err = sendErr
	}
	return err
}

// close closes the socket and ends a waiting read.
func (s *packetSocket) close() error { return s.file.Close() }
