package announcer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const kernelTimeout = 10 * time.Second // generous, for a busy machine

// A host is one end of a veth pair in a network namespace of its own.
type host struct {
	ns  netns.NsHandle
	nl  *netlink.Handle
	ifi *net.Interface
}

// newSegment makes two hosts and connects them. The calling goroutine stays locked to
// its thread. The thread ends with the goroutine, and the namespaces end with the thread.
func newSegment(t testing.TB) (ours, peer host) {
	t.Helper()
	runtime.LockOSThread()
	for _, h := range []*host{&ours, &peer} {
		ns, err := netns.New()
		if errors.Is(err, unix.EPERM) {
			t.Skip("needs root to make a network namespace")
		}
		require.NoError(t, err)
		t.Cleanup(func() { _ = ns.Close() })
		h.ns = ns
		h.nl, err = netlink.NewHandleAt(ns)
		require.NoError(t, err)
		t.Cleanup(h.nl.Close)
	}
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: "wire0", HardwareAddr: ourMAC},
		PeerName:         "wire0",
		PeerHardwareAddr: peerMAC,
		PeerNamespace:    netlink.NsFd(peer.ns),
	}
	require.NoError(t, ours.nl.LinkAdd(veth))
	for _, h := range []*host{&ours, &peer} {
		require.NoError(t, h.nl.LinkSetUp(h.link(t)))
		h.enter(t)
		ifi, err := net.InterfaceByName("wire0")
		require.NoError(t, err)
		h.ifi = ifi
	}
	require.Eventually(t, func() bool {
		return ours.link(t).Attrs().OperState == netlink.OperUp && peer.link(t).Attrs().OperState == netlink.OperUp
	}, kernelTimeout, time.Millisecond)
	return ours, peer
}

func (h *host) enter(t testing.TB) {
	t.Helper()
	require.NoError(t, netns.Set(h.ns))
}

func (h *host) link(t testing.TB) netlink.Link {
	t.Helper()
	l, err := h.nl.LinkByName("wire0")
	require.NoError(t, err)
	return l
}

func (h *host) open(t testing.TB, f Family) *Wire {
	t.Helper()
	h.enter(t)
	w, err := Open(h.ifi, f, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

// run opens a Wire for ARP and runs it until the test ends.
func (h *host) run(t testing.TB) *Wire {
	t.Helper()
	return h.runFamily(t, IPv4)
}

func (h *host) runFamily(t testing.TB, f Family) *Wire {
	t.Helper()
	w := h.open(t, f)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return w
}

// A tap is a socket that sends and receives whole frames.
type tap struct{ *packet.Conn }

func (h *host) tap(t testing.TB) tap {
	t.Helper()
	h.enter(t)
	conn, err := packet.Listen(h.ifi, packet.Raw, unix.ETH_P_ARP, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return tap{conn}
}

func (c tap) next(t testing.TB) []byte {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(kernelTimeout)))
	b := make([]byte, 2048)
	n, _, err := c.ReadFrom(b)
	require.NoError(t, err)
	return b[:n]
}

func (c tap) send(t testing.TB, frame []byte) {
	t.Helper()
	_, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: broadcast})
	require.NoError(t, err)
}

const (
	toAll       = "ffffffffffff 020000000099 0806"
	toUs        = "020000000001 020000000099 0806"
	toOthers    = "020000000077 020000000099 0806"
	toOtherVLAN = "ffffffffffff 020000000099 8100 0005 0806"
)

func nextClaim(t testing.TB, l *Listener) Claim {
	t.Helper()
	select {
	case c := <-l.Claims():
		return c
	case <-time.After(kernelTimeout):
		require.FailNow(t, "no claim")
		panic("unreachable")
	}
}

func requireCount(t *testing.T, w *Wire, v Verdict, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return w.Counts()[v] == uint64(n) }, kernelTimeout, time.Millisecond,
		"%s: %v", v, w.Counts())
}

func TestKernelAnnounce(t *testing.T) {
	ours, peer := newSegment(t)
	w, tap := ours.run(t), peer.tap(t)
	ctx, cancel := context.WithCancel(t.Context())
	again := make(chan struct{})
	ended := make(chan error)
	go func() { ended <- w.Announce(ctx, Announcement{Addr: vip, Schedule: fixed(time.Hour, 0)}, again) }()
	require.Equal(t, unhex(t, "ffffffffffff 020000000001 0806"+announceRequest), tap.next(t))
	require.Equal(t, unhex(t, "ffffffffffff 020000000001 0806"+announceReply), tap.next(t))

	require.NoError(t, ours.nl.LinkSetHardwareAddr(ours.link(t), secondMAC))
	w.SetHardwareAddr(secondMAC)
	again <- struct{}{}
	frame := tap.next(t)
	require.Equal(t, []byte(secondMAC), frame[6:12], "source of the frame")
	require.Equal(t, []byte(secondMAC), frame[22:28], "sender in the payload")

	cancel()
	require.NoError(t, <-ended)
}

func TestKernelVerdicts(t *testing.T) {
	ours, peer := newSegment(t)
	w, tap := ours.run(t), peer.tap(t)
	l := w.Listen(vip)
	defer l.Close()

	before := time.Now()
	for i, frame := range []string{toAll + peerRequest, toAll + peerReply, toUs + peerReply} {
		tap.send(t, unhex(t, frame))
		c := nextClaim(t, l)
		require.Equal(t, vip, c.Addr)
		require.Equal(t, peerMAC, c.MAC)
		require.False(t, c.Received.Before(before))
		require.False(t, c.Received.After(time.Now()))
		requireCount(t, w, VerdictClaim, i+1)
	}

	tap.send(t, unhex(t, toOthers+peerRequest))
	requireCount(t, w, VerdictElsewhere, 1)
	tap.send(t, unhex(t, toOtherVLAN+peerRequest))
	requireCount(t, w, VerdictElsewhere, 2)
	tap.send(t, unhex(t, toAll+probe))
	requireCount(t, w, VerdictProbe, 1)
	tap.send(t, unhex(t, toAll+announceRequest))
	requireCount(t, w, VerdictOwn, 1)
	whole := unhex(t, toAll+peerRequest)
	for n := 15; n < len(whole); n++ { // veth carries no empty frame
		tap.send(t, whole[:n])
		requireCount(t, w, VerdictMalformed, n-14)
	}
	tap.send(t, append(whole, make([]byte, 1400)...)) // longer than what is read
	nextClaim(t, l)
}

// A frame that was in the socket before Listen is not a claim.
func TestKernelStale(t *testing.T) {
	ours, peer := newSegment(t)
	tap := peer.tap(t)
	_ = ours.open(t, IPv4) // makes the kernel begin with timestamps, which takes a moment
	stale := func() bool {
		w := ours.open(t, IPv4)
		tap.send(t, unhex(t, toAll+peerRequest))
		l := w.Listen(vip)
		defer l.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		defer func() {
			cancel()
			require.NoError(t, <-ended)
		}()
		require.Eventually(t, func() bool {
			return w.Counts()[VerdictStale]+w.Counts()[VerdictClaim] == 1
		}, kernelTimeout, time.Millisecond)
		if w.Counts()[VerdictStale] == 0 {
			return false
		}
		tap.send(t, unhex(t, toAll+peerRequest))
		nextClaim(t, l)
		return true
	}
	for deadline := time.Now().Add(kernelTimeout); !stale(); {
		require.True(t, time.Now().Before(deadline), "no frame was stale")
	}
}

// The socket is not idle while a frame waits anywhere.
func TestKernelIdle(t *testing.T) {
	ours, peer := newSegment(t)
	w, tap := ours.open(t, IPv4), peer.tap(t)
	require.True(t, w.sock.Idle())
	received, next := make(chan error), make(chan struct{})
	tap.send(t, unhex(t, toAll+peerRequest))
	require.Eventually(t, func() bool { return !w.sock.Idle() }, kernelTimeout, time.Millisecond, "the frame waits in the socket")
	go func() {
		buf := make([]byte, maxPayload)
		for range 2 {
			_, err := w.sock.Receive(buf)
			received <- err
			<-next
		}
	}()
	require.NoError(t, <-received)
	require.False(t, w.sock.Idle(), "the receiver processes the frame")
	next <- struct{}{}
	require.Eventually(t, w.sock.Idle, kernelTimeout, time.Millisecond, "the receiver is back")
	tap.send(t, unhex(t, toAll+peerRequest))
	require.NoError(t, <-received)
	require.False(t, w.sock.Idle())
	next <- struct{}{}
}

func TestKernelLinkDown(t *testing.T) {
	ours, peer := newSegment(t)
	w, tap := ours.run(t), peer.tap(t)
	l := w.Listen(vip)
	defer l.Close()
	tap.send(t, unhex(t, toAll+peerRequest))
	nextClaim(t, l)

	require.NoError(t, ours.nl.LinkSetDown(ours.link(t)))
	probe := func() error {
		_, err := w.Prove(t.Context(), ProofConfig{Addr: vip})
		return err
	}
	require.ErrorIs(t, probe(), ErrNotSent)
	require.NoError(t, ours.nl.LinkSetUp(ours.link(t)))
	requireUp(t, &ours, true)
	require.NoError(t, probe())
	tap.send(t, unhex(t, toAll+peerRequest))
	nextClaim(t, l)

	// Without a carrier the kernel would accept frames and drop them.
	require.NoError(t, peer.nl.LinkSetDown(peer.link(t)))
	requireUp(t, &ours, false)
	require.ErrorIs(t, probe(), ErrNotSent)
}

func requireUp(t *testing.T, h *host, up bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		return (h.link(t).Attrs().OperState == netlink.OperUp) == up
	}, kernelTimeout, time.Millisecond)
}

func TestKernelInterfaceGone(t *testing.T) {
	for name, remove := range map[string]func(t *testing.T, ours, peer *host){
		"deleted": func(t *testing.T, ours, _ *host) {
			require.NoError(t, ours.nl.LinkDel(ours.link(t)))
		},
		"deleted while down": func(t *testing.T, ours, _ *host) {
			require.NoError(t, ours.nl.LinkSetDown(ours.link(t)))
			require.NoError(t, ours.nl.LinkDel(ours.link(t)))
		},
		"deleted with its peer": func(t *testing.T, _, peer *host) {
			require.NoError(t, peer.nl.LinkDel(peer.link(t)))
		},
		"moved to another namespace": func(t *testing.T, ours, peer *host) {
			link := ours.link(t)
			require.NoError(t, ours.nl.LinkSetDown(link))
			require.NoError(t, ours.nl.LinkSetName(link, "wire1"))
			require.NoError(t, ours.nl.LinkSetNsFd(link, int(peer.ns)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, peer := newSegment(t)
			w := ours.open(t, IPv4)
			ended := make(chan error, 1)
			go func() { ended <- w.Run(t.Context()) }()
			announced := make(chan error, 1)
			go func() {
				announced <- w.Announce(t.Context(), Announcement{Addr: vip, Schedule: fixed(time.Hour, 0)}, nil)
			}()
			remove(t, &ours, &peer)
			require.ErrorIs(t, <-ended, ErrInterfaceGone)
			require.ErrorIs(t, <-announced, ErrClosed)
		})
	}
}

func TestKernelClose(t *testing.T) {
	ours, _ := newSegment(t)
	w := ours.open(t, IPv4)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	_, err := w.Prove(t.Context(), ProofConfig{Addr: vip})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.ErrorIs(t, <-ended, ErrClosed)
	require.NoError(t, w.Close())
	require.ErrorIs(t, w.sock.Send(Outbound{To: broadcast}), ErrClosed)
	_, err = w.Prove(t.Context(), ProofConfig{Addr: vip})
	require.ErrorIs(t, err, ErrClosed)
}

func TestKernelOpenWithoutInterface(t *testing.T) {
	_, _ = newSegment(t)
	_, err := Open(&net.Interface{Index: 4711, Name: "nope", HardwareAddr: ourMAC}, IPv4, Options{})
	require.ErrorIs(t, err, unix.ENODEV)
	require.ErrorContains(t, err, "nope")
}

// From the system call of the peer to the claim in the channel.
func BenchmarkFrameToClaim(b *testing.B) {
	ours, peer := newSegment(b)
	w, tap := ours.run(b), peer.tap(b)
	frame := unhex(b, toAll+peerRequest)
	for i := range 1000 {
		l := w.Listen(netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)}))
		defer l.Close()
	}
	l := w.Listen(vip)
	defer l.Close()
	var age time.Duration
	for b.Loop() {
		tap.send(b, frame)
		c := <-l.Claims()
		age += time.Since(c.Received)
	}
	b.ReportMetric(float64(age.Nanoseconds())/float64(b.N), "ns/frame→claim")
}

// From the call of Announce to the first frame in the socket of the peer.
func BenchmarkAnnounceToFrame(b *testing.B) {
	ours, peer := newSegment(b)
	w, tap := ours.run(b), peer.tap(b)
	w.pacer.limit.SetLimit(rate.Inf)
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Announce(ctx, Announcement{Addr: vip, Schedule: fixed(time.Hour, 0)}, nil) }()
		tap.next(b)
		b.StopTimer()
		tap.next(b)
		cancel()
		require.NoError(b, <-ended)
		b.StartTimer()
	}
}
