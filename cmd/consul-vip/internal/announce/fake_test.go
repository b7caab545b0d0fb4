package announce

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/netif"
)

var prefix = netip.MustParsePrefix("10.77.0.100/24")

var errStopped = errors.New("stopped by the test")

// fakeHost is the kernel of a host. It records what is asked of it.
type fakeHost struct {
	mu      sync.Mutex // guards all following fields
	calls   []string
	foreign string // the interface on which another program has bound the address
	has     bool   // the address that the service has bound is there
}

func (h *fakeHost) call(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, name)
}

// asked returns what was asked until now.
func (h *fakeHost) asked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// since returns what was asked because of do.
func (h *fakeHost) since(do func()) []string {
	before := len(h.asked())
	do()
	synctest.Wait()
	return h.asked()[before:]
}

// bound reports whether the service has the address bound.
func (h *fakeHost) bound() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.has
}

func (h *fakeHost) set(has bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.has = has
}

func (h *fakeHost) Bind(int, netip.Prefix, time.Duration) (bound, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.foreign != "" {
		return nil, &netif.ForeignError{Addr: prefix.Addr(), Interface: h.foreign}
	}
	h.calls = append(h.calls, "bind")
	h.has = true
	return h, nil
}

func (h *fakeHost) Extend(time.Duration) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.has, nil
}

func (h *fakeHost) Unbind() error {
	h.call("unbind")
	h.set(false)
	return nil
}

func (h *fakeHost) Remove(int, netip.Addr) error {
	h.call("remove")
	return nil
}

func (h *fakeHost) Identity(int) (netif.Identity, error) { return netif.Identity{}, nil }

// fakeSocket is a packet socket on a segment where nobody answers.
type fakeSocket struct {
	in     chan announcer.Inbound
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex // guards all following fields
	sent []sent
}

// sent is a frame that was sent.
type sent struct {
	arp.Packet
	to net.HardwareAddr
	at time.Time
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{in: make(chan announcer.Inbound), closed: make(chan struct{})}
}

func (f *fakeSocket) Receive([]byte) (announcer.Inbound, error) {
	select {
	case in := <-f.in:
		return in, nil
	case <-f.closed:
		return announcer.Inbound{}, announcer.ErrClosed
	}
}

func (f *fakeSocket) Idle() bool { return true }

func (f *fakeSocket) Send(o announcer.Outbound) error {
	s := sent{to: o.To, at: time.Now()}
	if err := s.UnmarshalBinary(o.Payload); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, s)
	return nil
}

func (f *fakeSocket) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// claim has a station claim the address.
func (f *fakeSocket) claim(t *testing.T, mac net.HardwareAddr) {
	t.Helper()
	f.in <- claimOf(t, mac)
	synctest.Wait()
}

// claimOf is a frame by which a station claims the address.
func claimOf(t *testing.T, mac net.HardwareAddr) announcer.Inbound {
	t.Helper()
	p, err := arp.NewPacket(arp.OperationReply, mac, prefix.Addr(), mac, prefix.Addr())
	require.NoError(t, err)
	payload, err := p.MarshalBinary()
	require.NoError(t, err)
	return announcer.Inbound{From: mac, Payload: payload, Received: time.Now()}
}

// probes reports whether anything was sent.
func (f *fakeSocket) probes() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sent) > 0
}

// announcements are the frames by which the address was announced since a time.
func (f *fakeSocket) announcements(since time.Time) (frames []sent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sent {
		if s.SenderIP == prefix.Addr() && !s.at.Before(since) {
			frames = append(frames, s)
		}
	}
	return frames
}

// scene is a service on a fake host and a fake segment.
type scene struct {
	*fakeHost
	*fakeSocket
	service *service
	events  chan netif.Event
	paused  atomic.Int64 // by how much the machine's clock is ahead
	stop    context.CancelCauseFunc
	ended   chan error
}

// serving runs a service with these options, and test beside it. If the service has not
// ended by itself, it is stopped.
func serving(t *testing.T, o Options, prepare func(*scene), test func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Prefix, o.Logger = prefix, hclog.NewNullLogger()
		if o.Schedule == (announcer.Schedule{}) {
			o.Schedule.Interval = 10 * time.Second
		}
		s := &scene{fakeHost: &fakeHost{}, fakeSocket: newFakeSocket(), events: make(chan netif.Event), ended: make(chan error, 1)}
		if prepare != nil {
			prepare(s)
		}
		wire := announcer.New(s.fakeSocket, lowMAC, announcer.IPv4, announcer.Options{})
		s.service = newService(o, &net.Interface{Index: 7, Name: "eth0", HardwareAddr: lowMAC}, s.fakeHost, wire)
		began := time.Now()
		s.service.now = func() time.Duration { return time.Since(began) + time.Duration(s.paused.Load()) }
		ctx, stop := context.WithCancelCause(t.Context())
		s.stop = stop
		go func() { s.ended <- s.service.run(ctx, s.watch) }()
		synctest.Wait()
		test(t, s)
		stop(errStopped)
		synctest.Wait()
		require.NotEmpty(t, s.ended, "the service has not ended")
	})
}

// watch passes the events of the test on.
func (s *scene) watch(ctx context.Context, events chan<- netif.Event) error {
	for {
		select {
		case e := <-s.events:
			events <- e
		case <-ctx.Done():
			return nil
		}
	}
}

// up waits until the address is announced.
func (s *scene) up(t *testing.T) {
	t.Helper()
	time.Sleep(announcer.LoneSilence + 100*time.Millisecond)
	require.NotEmpty(t, s.announcements(time.Time{}), "it is not announced")
}

// runs requires that the service has not ended.
func (s *scene) runs(t *testing.T) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, s.ended, "the service has ended")
}

// end returns the error with which the service has ended.
func (s *scene) end(t *testing.T) error {
	t.Helper()
	synctest.Wait()
	require.NotEmpty(t, s.ended, "the service has not ended")
	err := <-s.ended
	s.ended <- err
	return err
}
