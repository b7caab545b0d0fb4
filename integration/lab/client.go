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

// Client sends ICMP echo requests to one address at an interval and records which
// requests were answered, when, and by which hardware address. The requests pass the
// host's routing and neighbour cache as any program's packets do, so a client sees what
// a user of the address sees. All methods are safe for concurrent use.
type Client struct {
	target  netip.Addr
	every   time.Duration
	clients *ClientGroup

	mu       sync.Mutex // guards all following fields
	requests []request  // by sequence number
	order    []int      // sequence numbers in the order of their answers
	stopped  bool       // no answer counts any more
}

// ClientGroup are clients of several addresses on one host. They take turns, so that their
// requests are spread evenly over the interval.
type ClientGroup struct {
	All []*Client // in the order of the addresses

	id      int // of the echo requests, tells them from those of other clients
	sender  int // raw socket
	wire    *packetSocket
	segment *segment
	byAddr  map[netip.Addr]*Client

	quit      chan struct{} // closed by Stop
	sending   sync.WaitGroup
	receiving sync.WaitGroup
}

// request is one echo request and its answer, if there was one.
type request struct {
	sent     time.Time
	answered time.Time // zero: not answered
	mac      [6]byte   // of the host that answered
}

// NewClient starts to send requests from the host to an IPv4 address, one every
// millisecond. Stop must be called once to end it.
func (h *Host) NewClient(target netip.Addr) (*Client, error) {
	clients, err := h.NewClients(ClientInterval, target)
	if err != nil {
		return nil, err
	}
	return clients.All[0], nil
}

// NewClients starts to send requests from the host to IPv4 addresses, to each at this
// interval. Stop must be called once to end it.
func (h *Host) NewClients(every time.Duration, targets ...netip.Addr) (*ClientGroup, error) {
	cs := &ClientGroup{segment: h.segment, byAddr: make(map[netip.Addr]*Client), quit: make(chan struct{})}
	for _, target := range targets {
		c := &Client{target: target, every: every, clients: cs}
		cs.All, cs.byAddr[target] = append(cs.All, c), c
	}
	var err error
	if cs.wire, err = h.openPacket("eth0", unix.ETH_P_IP); err != nil {
		return nil, err
	}
	if err = h.ns.do(cs.openSender); err != nil {
		return nil, errors.Join(fmt.Errorf("client: %w", err), cs.wire.close())
	}
	cs.id = cs.sender & 0xffff // no two open sockets have the same descriptor
	cs.receiving.Go(cs.receive)
	cs.sending.Go(func() { pace(every/time.Duration(len(targets)), cs.quit, cs.turns()) })
	return cs, nil
}

// openSender opens the raw socket. It must run in the host's namespace.
func (cs *ClientGroup) openSender() (err error) {
	cs.sender, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	// The filter drops every type: the packet socket receives the answers.
	return unix.SetsockoptInt(cs.sender, unix.SOL_RAW, unix.ICMP_FILTER, -1)
}

// turns returns a function that sends the next request of one client after the other.
func (cs *ClientGroup) turns() func() {
	next := 0
	return func() {
		cs.All[next%len(cs.All)].send()
		next++
	}
}

// send sends the next request.
func (c *Client) send() {
	c.mu.Lock()
	seq := len(c.requests)
	// Without a monotonic reading: the answer's time is the kernel's wall clock.
	c.requests = append(c.requests, request{sent: time.Now().Round(0)})
	c.mu.Unlock()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{
		ID: c.clients.id, Seq: seq & 0xffff, Data: binary.BigEndian.AppendUint64(nil, uint64(seq)),
	}}
	packet, err := m.Marshal(nil)
	if err != nil {
		panic(err) // an echo request can always be marshalled
	}
	// An error means that the host has no route to the target at present. Then the
	// request gets no answer, and that is what the client measures.
	_ = unix.Sendto(c.clients.sender, packet, 0, &unix.SockaddrInet4{Addr: c.target.As4()})
}

// receive records the answers until the socket is closed.
func (cs *ClientGroup) receive() {
	buf := make([]byte, 2048)
	for {
		frame, at, err := cs.wire.read(buf)
		if err != nil {
			return
		}
		if c, seq, ok := cs.parse(frame); ok {
			c.record(seq, at, [6]byte(frame[6:12]))
		}
	}
}

// parse returns whose answer a frame is, and its sequence number.
func (cs *ClientGroup) parse(frame []byte) (c *Client, seq int, ok bool) {
	const ethernet = 14
	if len(frame) < ethernet+ipv4.HeaderLen {
		return nil, 0, false
	}
	header, err := ipv4.ParseHeader(frame[ethernet:])
	if err != nil || header.Protocol != unix.IPPROTO_ICMP {
		return nil, 0, false
	}
	source, _ := netip.AddrFromSlice(header.Src.To4())
	if c = cs.byAddr[source]; c == nil {
		return nil, 0, false
	}
	m, err := icmp.ParseMessage(unix.IPPROTO_ICMP, frame[ethernet+header.Len:])
	if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
		return nil, 0, false
	}
	echo, isEcho := m.Body.(*icmp.Echo)
	if !isEcho || echo.ID != cs.id || len(echo.Data) < 8 {
		return nil, 0, false
	}
	return c, int(binary.BigEndian.Uint64(echo.Data)), true
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
	return c.clients.segment.nameOf(net.HardwareAddr(last.mac[:]))
}

// CheckAnsweredBy returns an error unless this host gave the newest answer.
func (c *Client) CheckAnsweredBy(h *Host) error {
	if by := c.AnsweredBy(); by != h.Name {
		return fmt.Errorf("%q answers the client, not %s", by, h.Name)
	}
	return nil
}

// Stop ends the client, and all that were started with it, when the last requests had
// time to be answered, and returns what it saw.
func (c *Client) Stop() Report {
	c.clients.Stop()
	return c.Report()
}

// Stop ends the clients when the last requests had time to be answered.
func (cs *ClientGroup) Stop() {
	close(cs.quit)
	cs.sending.Wait()
	deadline := time.NewTimer(answerTimeout)
	defer deadline.Stop()
	<-deadline.C
	cs.wire.close()
	cs.receiving.Wait()
	syscall.Close(cs.sender)
	for _, c := range cs.All {
		c.mu.Lock()
		c.stopped = true
		c.mu.Unlock()
	}
}
