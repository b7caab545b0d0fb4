package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// ClientInterval is the time between two of a client's requests.
	ClientInterval = time.Millisecond

	// answerTimeout is how long after a request its answer still counts.
	answerTimeout = 100 * time.Millisecond
)

// Client sends an ICMP echo request to one address every millisecond and records
// which requests were answered, when, and by which hardware address. The requests
// pass the host's routing and neighbour cache as any program's packets do, so a
// client sees what a user of the address sees. All methods are safe for concurrent
// use, except that Stop must be called once.
type Client struct {
	target  netip.Addr
	id      int // of the echo requests, tells them from another client's
	sender  int // raw socket
	wire    *packetSocket
	segment *segment

	quit      chan struct{} // closed by Stop
	sending   sync.WaitGroup
	receiving sync.WaitGroup

	mu       sync.Mutex // guards all following fields
	requests []request  // by sequence number
	order    []int      // sequence numbers in the order of their answers
	stopped  bool       // no answer counts any more
}

// request is one echo request and its answer, if there was one.
type request struct {
	sent     time.Time
	answered time.Time // zero: not answered
	mac      [6]byte   // of the host that answered
}

// NewClient starts to send requests from the host to an IPv4 address. Stop must be
// called to end it.
func (h *Host) NewClient(target netip.Addr) (*Client, error) {
	c := &Client{target: target, segment: h.segment, quit: make(chan struct{})}
	var err error
	if c.wire, err = h.openPacket("eth0", unix.ETH_P_IP); err != nil {
		return nil, err
	}
	if err = h.ns.do(c.openSender); err != nil {
		return nil, errors.Join(fmt.Errorf("client: %w", err), c.wire.close())
	}
	c.id = c.sender & 0xffff // no two open sockets have the same descriptor
	c.receiving.Go(c.receive)
	c.sending.Go(func() { pace(ClientInterval, c.quit, c.send) })
	return c, nil
}

// openSender opens the raw socket. It must run in the host's namespace.
func (c *Client) openSender() (err error) {
	c.sender, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	// The filter drops every type: the packet socket receives the answers.
	return unix.SetsockoptInt(c.sender, unix.SOL_RAW, unix.ICMP_FILTER, -1)
}

// send sends the next request.
func (c *Client) send() {
	c.mu.Lock()
	seq := len(c.requests)
	// Without a monotonic reading: the answer's time is the kernel's wall clock.
	c.requests = append(c.requests, request{sent: time.Now().Round(0)})
	c.mu.Unlock()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{
		ID: c.id, Seq: seq & 0xffff, Data: binary.BigEndian.AppendUint64(nil, uint64(seq)),
	}}
	packet, err := m.Marshal(nil)
	if err != nil {
		panic(err) // an echo request can always be marshalled
	}
	// An error means that the host has no route to the target at present. Then the
	// request gets no answer, and that is what the client measures.
	_ = unix.Sendto(c.sender, packet, 0, &unix.SockaddrInet4{Addr: c.target.As4()})
}

// receive records the answers until the socket is closed.
func (c *Client) receive() {
	buf := make([]byte, 2048)
	for {
		frame, at, err := c.wire.read(buf)
		if err != nil {
			return
		}
		if mac, seq, ok := c.parse(frame); ok {
			c.record(seq, at, mac)
		}
	}
}

// parse returns the sequence number and the sender of an answer to this client.
func (c *Client) parse(frame []byte) (mac [6]byte, seq int, ok bool) {
	const ethernet = 14
	if len(frame) < ethernet+ipv4.HeaderLen {
		return mac, 0, false
	}
	header, err := ipv4.ParseHeader(frame[ethernet:])
	if err != nil || header.Protocol != unix.IPPROTO_ICMP || !header.Src.Equal(c.target.AsSlice()) {
		return mac, 0, false
	}
	m, err := icmp.ParseMessage(unix.IPPROTO_ICMP, frame[ethernet+header.Len:])
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
		return mac, 0, false
	}
	echo, isEcho := m.Body.(*icmp.Echo)
	if !isEcho || echo.ID != c.id || len(echo.Data) < 8 {
		return mac, 0, false
	}
	return [6]byte(frame[6:12]), int(binary.BigEndian.Uint64(echo.Data)), true
}

func (c *Client) record(seq int, at time.Time, mac [6]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq >= len(c.requests) || !c.requests[seq].answered.IsZero() {
		return
	}
	c.requests[seq].answered, c.requests[seq].mac = at, mac
	c.order = append(c.order, seq)
}

// AnsweredBy returns the name of the host that gave the newest answer, or its MAC if
// it is no host of the lab. It returns "" if that answer is older than the time
// after which a request counts as lost.
func (c *Client) AnsweredBy() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.order) == 0 {
		return ""
	}
	last := c.requests[c.order[len(c.order)-1]]
	if time.Since(last.answered) > answerTimeout {
		return ""
	}
	return c.segment.nameOf(net.HardwareAddr(last.mac[:]))
}

// CheckAnsweredBy returns an error unless this host gave the newest answer.
func (c *Client) CheckAnsweredBy(h *Host) error {
	if by := c.AnsweredBy(); by != h.Name {
		return fmt.Errorf("%q answers the client, not %s", by, h.Name)
	}
	return nil
}

// Stop ends the client when the last requests had time to be answered, and returns
// what it saw.
func (c *Client) Stop() Report {
	close(c.quit)
	c.sending.Wait()
	deadline := time.NewTimer(answerTimeout)
	defer deadline.Stop()
	<-deadline.C
	c.wire.close()
	c.receiving.Wait()
	syscall.Close(c.sender)
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	return c.Report()
}
