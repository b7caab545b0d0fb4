package announcer

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// A window does not count while an answer may wait unread.
func TestProveWhileTheReaderIsBacklogged(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.die(true)
		sock.setBacklogged(true)
		s.after(105*time.Millisecond, func() { sock.setBacklogged(false) })
		start := time.Now()
		s.prove(t, peerConfig())
		require.Equal(t, 100*time.Millisecond+WitnessedSilence, time.Since(start))
	})
}

// A timer is late if its process was paused, or its machine. Frames may have got lost.
func TestProveLateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &proving{addr: vip, end: time.Now().Add(time.Hour), wire: New(newFakeSocket(), ourMAC, IPv4, Options{})}
		s := &suspect{kind: owner, witnesses: &witnesses{}, news: latest.NewWake()}
		for since, want := range map[time.Duration]finding{
			0: alone, answerWindow + maxLate: alone, answerWindow + maxLate + 1: void, time.Minute: void,
		} {
			f, err := p.window(t.Context(), s, nil, time.Now().Add(-since))
			require.NoError(t, err)
			require.Equal(t, want, f, since)
		}
	})
}

func TestProveWhileSendingFails(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		start := time.Now()
		sock.failWith(unix.ENETDOWN)
		_, err := w.Prove(t.Context(), peerConfig())
		require.ErrorIs(t, err, ErrNotSent)
		require.ErrorIs(t, err, unix.ENETDOWN)
		require.Equal(t, maxUnsent, time.Since(start))

		s.after(305*time.Millisecond, func() { sock.failWith(nil) })
		start = time.Now()
		s.prove(t, peerConfig())
		require.Greater(t, time.Since(start), 305*time.Millisecond)
		require.Less(t, time.Since(start), 330*time.Millisecond)
	})
}

// On a link that loses 5 % in each direction, an address that the owner has is never
// proved to be free.
func TestProveNeverFalse(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.set(vip, true)
		s.peer.loss = 0.05
		w.losses = losses{}
		for range 6000 { // what a host check has measured
			w.losses.add(peerMAC, s.peer.loses(), time.Now())
		}
		require.GreaterOrEqual(t, proofRounds(w.losses.loss(peerMAC, time.Now())), 9)
		c := peerConfig()
		c.Timeout = 10 * time.Millisecond
		for i := range 10_000 {
			_, err := w.Prove(t.Context(), c)
			require.ErrorAs(t, err, new(*InUseError), "run %d", i)
			sock.forget()
		}
	})
}

// The same link, and an address that was let go: the proof comes all the same.
func TestProveOnLossyLink(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.loss = 0.05
		w.losses = losses{}
		for range 100 {
			require.Equal(t, ProvedByAnswer, s.prove(t, peerConfig()).By)
		}
	})
}
