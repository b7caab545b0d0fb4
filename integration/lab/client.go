package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
)

const (
	// ClientInterval is the time between two of a client's requests.
	ClientInterval = time.Millisecond

	// answerTimeout is how long after a request its answer still counts.
	answerTimeout = 100 * time.Millisecond
)

// Client sends ICMP or ICMPv6 echo requests to one address at an interval and records which
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
	pings   []*pings
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

// NewClient starts to send requests from the host to an address, one every
// millisecond. Stop must be called once to end it.
func (h *Host) NewClient(target netip.Addr) (*Client, error) {
	clients, err := h.NewClients(ClientInterval, target)
	if err != nil {
		return nil, err
	}
	return clients.All[0], nil
}

// NewClients starts to send requests from the host to addresses, to each at this
// interval. Stop must be called once to end it.
func (h *Host) NewClients(every time.Duration, targets ...netip.Addr) (*ClientGroup, error) {
	cs := &ClientGroup{segment: h.segment, byAddr: make(map[netip.Addr]*Client), quit: make(chan struct{})}
	for _, target := range targets {
		c := &Client{target: target, every: every, clients: cs}
		cs.All, cs.byAddr[target] = append(cs.All, c), c
	}
	for _, f := range families {
		if !slices.ContainsFunc(targets, f.has) {
			continue
		}
		p, err := h.openPings(f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("client: %w", err), cs.close())
		}
		cs.pings = append(cs.pings, p)
	}
	cs.id = cs.pings[0].sender & 0xffff // no two open sockets have the same descriptor
	for _, p := range cs.pings {
		cs.receiving.Go(func() { cs.receive(p) })
	}
	cs.sending.Go(func() { pace(every/time.Duration(len(targets)), cs.quit, cs.turns()) })
	return cs, nil
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
	// An error means that the host has no route to the target at present. Then the
	// request gets no answer, and that is what the client measures.
	_ = c.clients.pingsTo(c.target).send(c.target, icmp.Echo{
		ID: c.clients.id, Seq: seq & 0xffff, Data: binary.BigEndian.AppendUint64(nil, uint64(seq)),
	})
}

// pingsTo returns the sockets for an address.
func (cs *ClientGroup) pingsTo(target netip.Addr) *pings {
	return cs.pings[slices.IndexFunc(cs.pings, func(p *pings) bool { return p.family.has(target) })]
}

// receive records the answers until the socket is closed.
func (cs *ClientGroup) receive(p *pings) {
	buf := make([]byte, 2048)
	for {
		frame, at, err := p.wire.read(buf)
		if err != nil {
			return
		}
		source, echo, ok := p.family.parse(frame)
		if c := cs.byAddr[source]; ok && c != nil && echo.ID == cs.id && len(echo.Data) >= 8 {
			c.record(int(binary.BigEndian.Uint64(echo.Data)), at, [6]byte(frame[6:12]))
		}
	}
}

// close closes the sockets.
func (cs *ClientGroup) close() (err error) {
	for _, p := range cs.pings {
		err = errors.Join(err, p.wire.close(), syscall.Close(p.sender))
	}
	return err
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
	_ = cs.close()
	cs.receiving.Wait()
	for _, c := range cs.All {
		c.mu.Lock()
		c.stopped = true
		c.mu.Unlock()
	}
}
