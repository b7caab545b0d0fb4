package announcer

import (
	"net"
	"time"
)

const macLen = 6

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A socket sends and receives frames without their Ethernet header. One goroutine at
// a time may call receive, any goroutine the other methods.
type socket interface {
	// receive blocks until the next frame. It stores the payload in b.
	receive(b []byte) (inbound, error)

	// idle reports whether the receiver waits for the next frame and has processed
	// all frames that the kernel has received until now.
	idle() bool

	// send never blocks. A frame that cannot be sent at once is an error.
	send(outbound) error

	// close makes receive return. It may be called more than once.
	close() error
}

// inbound is a received frame.
type inbound struct {
	payload   []byte
	received  time.Time // by the kernel; on the monotonic clock
	elsewhere bool      // addressed to another host, or to a VLAN without an interface here
}

// outbound is a frame to send.
type outbound struct {
	to      net.HardwareAddr
	payload []byte
}
