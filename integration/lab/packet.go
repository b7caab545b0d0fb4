package lab

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is what the kernel may hold for a packet socket: many seconds
// of the lab's traffic, so that a busy machine doesn't look like a lost packet.
const receiveBuffer = 4 << 20

// packetSocket sends and receives whole Ethernet frames of one EtherType on one
// interface, received ones with the time at which the kernel received them.
type packetSocket struct {
	file *os.File
	raw  syscall.RawConn
}

// openPacket opens a packet socket on an interface of the host. It receives
// frames addressed to this host or to everybody, not those sent by itself.
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
		// Not allowed in every user namespace. What the system grants has to do.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return err
		}
	}
	// Bound last: from here on, frames are received.
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

// timestamp finds the kernel's time stamp among a message's control data.
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
