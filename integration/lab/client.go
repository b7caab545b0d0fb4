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

	// inFlight is how long a request may be on its way before it counts as lost.
	inFlight = 100 * time.Millisecond
)

// Client sends an ICMP echo request to one address every millisecond and takes
// down which requests were answered, when, and by which hardware address. The
// requests take the way of any program's packets, through the host's routing
// and neighbour cache, so what the client sees is what its users would.
type Client struct {
	target netip.Addr
	id     int // of the echo requests, tells them from another client's
	sender int // raw socket
	wire   *packetSocket
	lab    *Lab

	quit chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	probes []probe // by sequence number
	order  []int   // sequence numbers in the order of their answers
}

// probe is one echo request and, once it came, its answer.
type probe struct {
	sent     time.Time
	answered time.Time // zero: not answered
	mac      [6]byte   // of the host that answered
}

// NewClient starts to send requests from the host to an IPv4 address. It must
// be stopped by Stop.
func (h *Host) NewClient(target netip.Addr) (*Client, error) {
	c := &Client{target: target, lab: h.lab, quit: make(chan struct{})}
	var err error
	if c.wire, err = h.openPacket("eth0", unix.ETH_P_IP); err != nil {
		return nil, err
	}
	if err = h.ns.do(c.openSender); err != nil {
		return nil, errors.Join(fmt.Errorf("client: %w", err), c.wire.close())
	}
	c.id = c.sender & 0xffff // a descriptor is as unique as the socket
	c.done.Go(c.receive)
	c.done.Go(func() { pace(ClientInterval, c.quit, c.send) })
	return c, nil
}

// openSender opens the raw socket; it must run in the host's namespace.
func (c *Client) openSender() (err error) {
	c.sender, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	// Every type is filtered out: the answers come through the packet socket.
	return unix.SetsockoptInt(c.sender, unix.SOL_RAW, unix.ICMP_FILTER, -1)
}

// send sends the next request.
func (c *Client) send() {
	c.mu.Lock()
	seq := len(c.probes)
	c.probes = append(c.probes, probe{sent: time.Now().Round(0)})
	c.mu.Unlock()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{
		ID: c.id, Seq: seq & 0xffff, Data: binary.BigEndian.AppendUint64(nil, uint64(seq)),
	}}
	packet, err := m.Marshal(nil)
	if err != nil {
		panic(err) // an echo request can always be marshalled
	}
	// An error means that the host knows no way to the target at present. The
	// request will have no answer then, and that's what is measured.
	_ = unix.Sendto(c.sender, packet, 0, &unix.SockaddrInet4{Addr: c.target.As4()})
}

// receive takes down the answers until the socket is closed.
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

// parse finds the sequence number and the sender of an answer to this client.
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
	if seq >= len(c.probes) || !c.probes[seq].answered.IsZero() {
		return
	}
	c.probes[seq].answered, c.probes[seq].mac = at, mac
	c.order = append(c.order, seq)
}

// AnsweredBy returns the name of the host that gave the newest answer, as
// [Lab.NameOf] does, or "" while the newest requests aren't answered.
func (c *Client) AnsweredBy() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.order) == 0 {
		return ""
	}
	last := c.probes[c.order[len(c.order)-1]]
	if time.Since(last.answered) > inFlight {
		return ""
	}
	return c.lab.NameOf(net.HardwareAddr(last.mac[:]))
}

// Stop ends the client, once the last requests had time to be answered, and
// returns what it saw.
func (c *Client) Stop() Report {
	close(c.quit)
	deadline := time.NewTimer(inFlight)
	defer deadline.Stop()
	<-deadline.C
	c.wire.close()
	c.done.Wait()
	syscall.Close(c.sender)
	return c.Report()
}
