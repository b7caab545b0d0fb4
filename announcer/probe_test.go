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

// answer makes an owner with mac answer every probe until the given time.
func (f *fakeSocket) answer(mac net.HardwareAddr, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = func(p arp.Packet) {
		if !time.Now().After(until) {
			go f.say(p.TargetIP, mac)
		}
	}
}

func ownerUntil(d time.Duration) time.Time { return time.Now().Add(d) }

func TestProbeSilence(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: rivalMAC}))
		require.Equal(t, 50*time.Millisecond, time.Since(start))
		require.Equal(t, ms(0, 10, 20, 30, 40), sock.offsets(arp.OperationRequest, start))
		for i, s := range sock.frames() {
			to := rivalMAC
			if i == 0 {
				to = broadcast
			}
			require.Equal(t, to, s.to, "probe %d", i)
			require.Equal(t, ourMAC, s.SenderHardwareAddr)
			require.Equal(t, netip.IPv4Unspecified(), s.SenderIP)
			require.Equal(t, unknownMAC, s.TargetHardwareAddr)
			require.Equal(t, vip, s.TargetIP)
		}
		require.Empty(t, w.listeners.byAddr, "the question's subscription ends with it")
	})
}

// Whoever does not listen hears no answer.
func TestProbeWhileTheReaderIsHeldUp(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		sock.holdUp(true)
		time.AfterFunc(105*time.Millisecond, func() { sock.holdUp(false) })
		start := time.Now()
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: rivalMAC}))
		require.Equal(t, 150*time.Millisecond, time.Since(start), "five probes after the reader is back")
	})
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		sock.holdUp(true)
		time.AfterFunc(105*time.Millisecond, func() {
			sock.say(vip, rivalMAC) // has waited in the socket
			sock.holdUp(false)
		})
		var answered *InUseError
		require.ErrorAs(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: rivalMAC}), &answered)
	})
}

func TestProbeByBroadcast(t *testing.T) {
	own := func(mac net.HardwareAddr) (bool, error) {
		switch mac.String() {
		case secondMAC.String():
			return true, nil
		default:
			return false, errors.New("netlink is out")
		}
	}
	for name, last := range map[string]net.HardwareAddr{
		"unknown": nil, "zero": unknownMAC, "broadcast": broadcast, "ours": ourMAC,
		"our second interface's": secondMAC, "perhaps ours": rivalMAC,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Own: own}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: last}))
				require.Len(t, sock.frames(), 5)
				for _, s := range sock.frames() {
					require.Equal(t, broadcast, s.to)
				}
			})
		})
	}
}

// The owner answers up to and including the probe at 120 ms: bind at 170 ms.
func TestProbeOwnerFallsSilent(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		sock.answer(rivalMAC, ownerUntil(120*time.Millisecond))
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: rivalMAC, Timeout: time.Minute}))
		require.Equal(t, 170*time.Millisecond, time.Since(start))
	})
}

// Silence counts from the last answer, though it came between two probes.
func TestProbeLateAnswer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		time.AfterFunc(47*time.Millisecond, func() { sock.say(vip, rivalMAC) })
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Timeout: time.Minute}))
		require.Equal(t, 97*time.Millisecond, time.Since(start))
	})
}

func TestProbeOthersDoNotAnswer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		time.AfterFunc(5*time.Millisecond, func() {
			sock.say(otherVIP, rivalMAC)
			sock.say(vip, ourMAC)
			sock.in <- received{frame: inbound{received: time.Now(), payload: arpProbe(broadcast, rivalMAC, vip).payload}}
			sock.in <- received{frame: inbound{received: start.Add(-1), payload: arpAnnouncements[1](rivalMAC, vip).payload}}
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
	for _, patience := range []time.Duration{0, 300 * time.Millisecond, 30 * time.Second} {
		t.Run(patience.String(), func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				start := time.Now()
				sock.answer(rivalMAC, ownerUntil(time.Hour))
				err := w.Probe(t.Context(), ProbeConfig{Addr: vip, Timeout: patience})
				var answered *InUseError
				require.ErrorAs(t, err, &answered)
				require.Equal(t, InUseError{Addr: vip, MAC: rivalMAC}, *answered)
				require.EqualError(t, err, "10.77.0.100 is in use by 02:00:00:00:00:99")
				require.Equal(t, patience, time.Since(start))
			})
		})
	}
}

// A stranger answers the broadcast: the next probes go to it, not to the last
// owner, whose silence would prove nothing.
func TestProbeFollowsWhoAnswers(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		last := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
		sock.answer(rivalMAC, ownerUntil(0))
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip, Target: last, Timeout: time.Minute}))
		frames := sock.frames()
		require.Equal(t, broadcast, frames[0].to)
		for _, s := range frames[1:] {
			require.Equal(t, rivalMAC, s.to)
		}
	})
}

func TestProbeFlood(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var flood sync.WaitGroup
		flood.Go(func() {
			for ctx.Err() == nil {
				sock.say(vip, rivalMAC)
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

func TestProbeCannotSend(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		sock.failWith(unix.ENETDOWN)
		err := w.Probe(t.Context(), ProbeConfig{Addr: vip})
		require.ErrorIs(t, err, ErrNotSent)
		require.ErrorIs(t, err, unix.ENETDOWN)
		require.Equal(t, askOutage, time.Since(start))

		// Silence that began in the outage counts from the first probe after it.
		start = time.Now()
		time.AfterFunc(305*time.Millisecond, func() { sock.failWith(nil) })
		require.NoError(t, w.Probe(t.Context(), ProbeConfig{Addr: vip}))
		require.Equal(t, 360*time.Millisecond, time.Since(start))

		// And one in between starts it over.
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

// Silence begins with the first probe sent, be it long after the call.
func TestProbeBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sock := newFakeSocket()
		w := newWire(sock, ourMAC, Options{})
		start := time.Now()
		asked := make(chan error)
		go func() { asked <- w.Probe(t.Context(), ProbeConfig{Addr: vip}) }()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- w.Run(ctx) }()
		require.NoError(t, <-asked)
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
