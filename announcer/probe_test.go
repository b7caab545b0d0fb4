package announcer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// answer makes a station with this MAC answer every probe until the given time.
func (f *fakeSocket) answer(mac net.HardwareAddr, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onSend = func(p sentFrame) {
		if !time.Now().After(until) {
			go f.announce(p.TargetIP, mac)
		}
	}
}

func TestProbeUnanswered(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: peerMAC}))
		require.Equal(t, 50*time.Millisecond, time.Since(start))
		require.Equal(t, ms(0, 10, 20, 30, 40), sock.offsets(arp.OperationRequest, start))
		for i, s := range sock.frames() {
			to := peerMAC
			if i == 0 {
				to = broadcast
			}
			require.Equal(t, to, s.to, "probe %d", i)
			require.Equal(t, ourMAC, s.SenderHardwareAddr)
			require.Equal(t, netip.IPv4Unspecified(), s.SenderIP)
			require.Equal(t, unknownMAC, s.TargetHardwareAddr)
			require.Equal(t, vip, s.TargetIP)
		}
		require.Empty(t, w.listeners.byAddr, "the subscription ends with the call")
	})
}

// A round does not count while an answer may wait unread.
func TestProbeWhileTheReaderIsBacklogged(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		sock.setBacklogged(true)
		time.AfterFunc(105*time.Millisecond, func() { sock.setBacklogged(false) })
		start := time.Now()
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: peerMAC}))
		require.Equal(t, 150*time.Millisecond, time.Since(start), "five rounds after the backlog")
	})
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		sock.setBacklogged(true)
		time.AfterFunc(105*time.Millisecond, func() {
			sock.announce(vip, peerMAC) // has waited in the socket
			sock.setBacklogged(false)
		})
		var inUse *InUseError
		require.ErrorAs(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: peerMAC}), &inUse)
	})
}

func TestProbeByBroadcast(t *testing.T) {
	own := func(mac net.HardwareAddr) (bool, error) {
		switch mac.String() {
		case secondMAC.String():
			return true, nil
		default:
			return false, errors.New("netlink failed")
		}
	}
	for name, target := range map[string]net.HardwareAddr{
		"unknown": nil, "zero": unknownMAC, "broadcast": broadcast, "own": ourMAC,
		"own, of another interface": secondMAC, "lookup fails": peerMAC,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Own: own}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: target}))
				require.Len(t, sock.frames(), 5)
				for _, s := range sock.frames() {
					require.Equal(t, broadcast, s.to)
				}
			})
		})
	}
}

// The owner answers up to and including the probe at 120 ms.
func TestProbeOwnerStopsAnswering(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		sock.answer(peerMAC, time.Now().Add(120*time.Millisecond))
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: peerMAC, Timeout: time.Minute}))
		require.Equal(t, 170*time.Millisecond, time.Since(start))
	})
}

// The window begins with the last answer, even one between two probes.
func TestProbeLateAnswer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		time.AfterFunc(47*time.Millisecond, func() { sock.announce(vip, peerMAC) })
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Timeout: time.Minute}))
		require.Equal(t, 97*time.Millisecond, time.Since(start))
	})
}

func TestProbeIgnoresOtherFrames(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		time.AfterFunc(5*time.Millisecond, func() {
			sock.announce(otherVIP, peerMAC)
			sock.announce(vip, ourMAC)
			sock.probe(vip, peerMAC)
			sock.in <- received{frame: Inbound{Received: start.Add(-1), Payload: arpAnnouncements[1](peerMAC, vip).Payload}}
		})
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip}))
		require.Equal(t, 50*time.Millisecond, time.Since(start))
		counts := w.Counts()
		for _, v := range []Verdict{VerdictOtherAddress, VerdictOwn, VerdictProbe, VerdictStale} {
			require.EqualValues(t, 1, counts[v], v)
		}
	})
}

func TestProbeTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{0, 300 * time.Millisecond, 30 * time.Second} {
		t.Run(timeout.String(), func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				start := time.Now()
				sock.answer(peerMAC, time.Now().Add(time.Hour))
				err := w.Probe(t.Context(), ProbeConfig{Addr: vip, Timeout: timeout})
				var inUse *InUseError
				require.ErrorAs(t, err, &inUse)
				require.Equal(t, InUseError{Addr: vip, MAC: peerMAC}, *inUse)
				require.EqualError(t, err, "10.77.0.100 is in use by 02:00:00:00:00:99")
				require.Equal(t, timeout, time.Since(start))
			})
		})
	}
}

// Another station than the target answers the broadcast. The next probes go to that
// station, because the silence of the target would prove nothing; the last two go to
// the target and to everybody.
func TestProbeFollowsTheAnswer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		target := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
		sock.answer(peerMAC, time.Now())
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: target, Timeout: time.Minute}))
		var to []net.HardwareAddr
		for _, s := range sock.frames() {
			to = append(to, s.to)
		}
		require.Equal(t, []net.HardwareAddr{broadcast, peerMAC, peerMAC, target, broadcast}, to)
	})
}

// Two stations have the address. That the one that answers last is gone says nothing
// about the other.
func TestProbeOfTwoStations(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		owner := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
		answers := func(f sentFrame, mac net.HardwareAddr, until, after time.Duration) {
			if time.Since(start) <= until && (f.to.String() == mac.String() || f.to.String() == broadcast.String()) {
				time.AfterFunc(after, func() { sock.announce(vip, mac) })
			}
		}
		sock.onSend = func(f sentFrame) {
			answers(f, owner, 300*time.Millisecond, time.Millisecond)
			answers(f, peerMAC, 100*time.Millisecond, 2*time.Millisecond)
		}
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: owner, Timeout: time.Minute}))
		require.Greater(t, time.Since(start), 300*time.Millisecond)
	})
}

// A broadcast that could not be sent is made up for.
func TestProbeBroadcastsFirst(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		sock.failWith(unix.ENOBUFS)
		time.AfterFunc(25*time.Millisecond, func() { sock.failWith(nil) })
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: peerMAC}))
		require.Equal(t, broadcast, sock.frames()[0].to)
	})
}

func TestProbeFlood(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var flood sync.WaitGroup
		flood.Go(func() {
			for ctx.Err() == nil {
				sock.announce(vip, peerMAC)
				time.Sleep(time.Millisecond)
			}
		})
		err := w.Probe(t.Context(), ProbeConfig{Addr: vip, Timeout: time.Second})
		require.ErrorAs(t, err, new(*InUseError))
		require.Equal(t, time.Second, time.Since(start))
		cancel()
		flood.Wait()
	})
}

func TestProbeWhileSendingFails(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		sock.failWith(unix.ENETDOWN)
		err := w.Probe(t.Context(), ProbeConfig{Addr: vip})
		require.ErrorIs(t, err, ErrNotSent)
		require.ErrorIs(t, err, unix.ENETDOWN)
		require.Equal(t, maxUnsent, time.Since(start))

		// The window begins with the first probe that could be sent.
		start = time.Now()
		time.AfterFunc(305*time.Millisecond, func() { sock.failWith(nil) })
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip}))
		require.Equal(t, 360*time.Millisecond, time.Since(start))

		// A probe in between that cannot be sent starts it over.
		start = time.Now()
		time.AfterFunc(25*time.Millisecond, func() { sock.failWith(unix.ENOBUFS) })
		time.AfterFunc(35*time.Millisecond, func() { sock.failWith(nil) })
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip}))
		require.Equal(t, 90*time.Millisecond, time.Since(start))
	})
}

func TestProbeEnds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		require.ErrorIs(t, w.Probe(t.Context(), ProbeConfig{Addr: netip.MustParseAddr("fd00::64")}), ErrUnsupportedFamily)

		cause := errors.New("lock lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(25*time.Millisecond, func() { cancel(cause) })
		require.ErrorIs(t, w.Probe(ctx, ProbeConfig{Addr: vip}), cause)
		sent := len(sock.frames())
		require.Equal(t, 3, sent)

		time.AfterFunc(25*time.Millisecond, func() { w.pacer.close() })
		require.ErrorIs(t, w.Probe(t.Context(), ProbeConfig{Addr: vip}), ErrClosed)
	})
}

// The window begins with the first probe that was sent, even if that is long after the
// call.
func TestProbeBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sock := newFakeSocket()
		w := New(sock, ourMAC, Options{})
		start := time.Now()
		probed := make(chan error)
		go func() { probed <- w.Probe(t.Context(), ProbeConfig{Addr: vip}) }()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- w.Run(ctx) }()
		require.NoError(t, <-probed)
		require.Equal(t, time.Minute+50*time.Millisecond, time.Since(start))
		cancel()
		require.NoError(t, <-ran)
	})
}

func TestProbeMany(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		const many = 1000
		start := time.Now()
		ended := make(chan error)
		for i := range many {
			addr := netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)})
			go func() { ended <- w.Probe(t.Context(), ProbeConfig{Addr: addr}) }()
		}
		for range many {
			require.NoError(t, <-ended)
		}
		require.Len(t, sock.frames(), 5*many)
		require.Less(t, time.Since(start), 600*time.Millisecond)
	})
}
