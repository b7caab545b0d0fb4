package announcer

import (
	"net"
	"time"
)

const macLen = 6

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A Socket sends and receives frames without their Ethernet header. One goroutine at
// a time may call Receive, any goroutine the other methods. [Open] uses a packet
// socket of the kernel; simulations have their own.
type Socket interface {
	// Receive blocks until the next frame. It may store the payload in b. ErrClosed and
	// ErrInterfaceGone are permanent.
	Receive(b []byte) (Inbound, error)

	// Idle reports whether the receiver waits for the next frame and has processed
	// all frames that the kernel has received until now.
	Idle() bool

	// Send never blocks. A frame that cannot be sent at once is an error.
	Send(Outbound) error

	// Close makes Receive return. It may be called more than once.
	Close() error
}

// Inbound is a received frame.
type Inbound struct {
	From      net.HardwareAddr // of the Ethernet header
	Payload   []byte
	Received  time.Time // by the kernel; on the monotonic clock
	Elsewhere bool      // addressed to another host, or to a VLAN without an interface here
}

// Outbound is a frame to send.
type Outbound struct {
	To      net.HardwareAddr
	Payload []byte
}
