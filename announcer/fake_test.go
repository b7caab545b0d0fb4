package announcer

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
)

var (
	ourMAC    = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}
	secondMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x02} // another interface of this host
	peerMAC   = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x99} // another station
	vip       = netip.MustParseAddr("10.77.0.100")
	otherVIP  = netip.MustParseAddr("10.77.0.101")
)

// fixed returns a schedule that never changes.
func fixed(interval, jitter time.Duration) func() Schedule {
	return func() Schedule { return Schedule{Interval: interval, Jitter: jitter} }
}

// A fakeSocket is a socket on which the test sends and receives by hand.
type fakeSocket struct {
	in     chan received
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex // guards all following fields
	sent    []sentFrame
	sendErr error
	idle    func() bool     // nil: the receiver has processed all frames
	onSend  func(sentFrame) // called for each frame sent
}

type received struct {
	frame Inbound
	err   error
}

type sentFrame struct {
	at time.Time
	to net.HardwareAddr
	arp.Packet
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{in: make(chan received), closed: make(chan struct{})}
}

func (f *fakeSocket) Receive([]byte) (Inbound, error) {
	select {
	case r := <-f.in:
		return r.frame, r.err
	case <-f.closed:
		return Inbound{}, ErrClosed
	}
}

func (f *fakeSocket) Idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.idle == nil || f.idle()
}

func (f *fakeSocket) setBacklogged(backlogged bool) {
	f.setIdle(func() bool { return !backlogged })
}

func (f *fakeSocket) setIdle(idle func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = idle
}

func (f *fakeSocket) Send(o Outbound) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sendErr != nil {
		return f.sendErr
	}
	s := sentFrame{at: time.Now(), to: o.To}
	if err := s.UnmarshalBinary(o.Payload); err != nil {
		return err
	}
	f.sent = append(f.sent, s)
	if f.onSend != nil {
		f.onSend(s)
	}
	return nil
}

func (f *fakeSocket) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

func (f *fakeSocket) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sendErr = err
}

func (f *fakeSocket) frames() []sentFrame {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]sentFrame(nil), f.sent...)
}

// forget drops the record of the frames sent.
func (f *fakeSocket) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = nil
}

// offsets returns when the frames of an operation were sent, counted from start.
func (f *fakeSocket) offsets(op arp.Operation, start time.Time) []time.Duration {
	var at []time.Duration
	for _, s := range f.frames() {
		if s.Operation == op {
			at = append(at, s.at.Sub(start))
		}
	}
	return at
}

// announce lets the socket receive a gratuitous request from mac now.
func (f *fakeSocket) announce(addr netip.Addr, mac net.HardwareAddr) {
	f.in <- received{frame: Inbound{Received: time.Now(), Payload: arpAnnouncements(mac, addr, RequestAndReply, false)[0].Payload}}
}

// probe lets the socket receive a probe from mac now.
func (f *fakeSocket) probe(addr netip.Addr, mac net.HardwareAddr) {
	f.in <- received{frame: Inbound{Received: time.Now(), Payload: arpProbe(broadcast, mac, netip.Addr{}, addr).Payload}}
}

// word lets the socket receive a probe from mac that carries n now.
func (f *fakeSocket) word(addr netip.Addr, mac net.HardwareAddr, n Nonce) {
	f.in <- received{frame: Inbound{Received: time.Now(), Payload: arpWord(broadcast, mac, addr, n).Payload}}
}

// inBubble calls f with a Wire over a fake socket in a synctest bubble. The Wire runs
// until f returns.
func inBubble(t *testing.T, o Options, f func(t *testing.T, w *Wire, sock *fakeSocket)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sock := newFakeSocket()
		w := New(sock, ourMAC, IPv4, o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		synctest.Wait()
		f(t, w, sock)
		cancel()
		require.NoError(t, <-ended)
	})
}

// A logBuffer is safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(s))
}
