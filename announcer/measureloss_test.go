package announcer

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const lossInterval = 25 * time.Millisecond

// measure measures the loss of a host until stop is called.
func (s *scene) measure(t *testing.T, h Host) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.wire.MeasureLoss(ctx, source, h, lossInterval) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

func TestMeasureLoss(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		w.losses = losses{}
		defer s.measure(t, peerHost)()
		rounds := func() int { return proofRounds(w.losses.loss(peerMAC, time.Now())) }
		askedIn := func(d time.Duration) int {
			sock.forget()
			time.Sleep(d)
			return len(sock.sentTo(peerMAC, peerAddr))
		}
		require.Len(t, sock.frames(), askedIn(0))
		require.Equal(t, 9, rounds(), "nothing is known yet")
		require.InDelta(t, 120, askedIn(3*time.Second), 1)
		require.Equal(t, 6, rounds())
		time.Sleep(13 * time.Second)
		require.Equal(t, 4, rounds())
		require.InDelta(t, 10, askedIn(time.Second), 1, "that is enough")
		time.Sleep(time.Minute)
		require.Equal(t, 4, rounds())

		s.peer.die(true)
		require.LessOrEqual(t, askedIn(time.Minute), 80, "a host that is away is asked rarely")
		s.peer.die(false)
		time.Sleep(20 * time.Second)
		samples, misses := w.losses.count(peerMAC, time.Now())
		require.Zero(t, misses, "those of its death are more than a minute old")
		require.Greater(t, samples, enoughSamples)
		s.peer.die(true)
		time.Sleep(10 * time.Second)
		_, misses = w.losses.count(peerMAC, time.Now())
		require.Equal(t, mostMissed, misses, "its silence is no loss")
	})
}

func TestMeasureLossyLink(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		w.losses = losses{}
		s.peer.loss = 0.02
		defer s.measure(t, peerHost)()
		time.Sleep(2 * time.Minute)
		require.InDelta(t, 0.04, w.losses.loss(peerMAC, time.Now()), 0.025)
	})
}

// A frame that was not sent, or waits unread, is not lost.
func TestMeasureLossWithoutKnowing(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		w.losses = losses{}
		sock.failWith(net.ErrClosed)
		defer s.measure(t, peerHost)()
		time.Sleep(time.Second)
		sock.failWith(nil)
		s.peer.die(true)
		sock.setBacklogged(true)
		time.Sleep(time.Second)
		samples, _ := w.losses.count(peerMAC, time.Now())
		require.Zero(t, samples)
	})
}

// A hundred measurements stay within the rate.
func TestMeasureLossMany(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		for i, addr := range manyVIPs(100) {
			defer s.measure(t, Host{Addr: addr, MACs: []net.HardwareAddr{{0x02, 1, 0, 0, 0, byte(i)}}})()
		}
		time.Sleep(time.Second)
		sock.forget()
		time.Sleep(time.Second)
		require.LessOrEqual(t, len(sock.frames()), lossRate)
		require.Greater(t, len(sock.frames()), lossRate/4)
	})
}

func TestMeasureLossEnds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		require.ErrorIs(t, w.MeasureLoss(t.Context(), source, Host{Addr: vip6, MACs: peerHost.MACs}, lossInterval), ErrUnsupportedFamily)
		require.ErrorIs(t, w.MeasureLoss(t.Context(), vip6, peerHost, lossInterval), ErrUnsupportedFamily)
		require.Error(t, w.MeasureLoss(t.Context(), source, Host{Addr: peerAddr}, lossInterval))
		require.Error(t, w.MeasureLoss(t.Context(), source, peerHost, 0))
		s.measure(t, peerHost)()
		require.Zero(t, w.measured.Load())
		time.AfterFunc(time.Second, func() { w.pacer.close() })
		require.ErrorIs(t, w.MeasureLoss(t.Context(), source, peerHost, lossInterval), ErrClosed)
	})
}
