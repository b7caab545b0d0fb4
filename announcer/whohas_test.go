package announcer

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// query asks as the command does.
func query() Query { return Query{Addr: vip, Source: source, Tries: 3, Window: 100 * time.Millisecond} }

func TestWhoHas(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		who := func() []Answer {
			t.Helper()
			answers, err := w.WhoHas(t.Context(), query())
			require.NoError(t, err)
			return answers
		}
		start := time.Now()
		require.Empty(t, who())
		require.Equal(t, 300*time.Millisecond, time.Since(start))
		require.Len(t, sock.frames(), 3)
		for _, f := range sock.frames() {
			require.True(t, f.SenderIP.IsUnspecified(), "it claims nothing")
		}

		s.peer.set(vip, true)
		s.peer.delay = 2 * time.Millisecond
		start = time.Now()
		require.Equal(t, []Answer{{MAC: peerMAC, Delay: 2 * time.Millisecond, Direct: true}}, who())
		require.Equal(t, 400*time.Millisecond, time.Since(start))

		s.third.set(vip, true)
		s.third.delay = time.Millisecond
		answers := who()
		require.Len(t, answers, 2)
		require.Equal(t, thirdMAC, answers[0].MAC, "the fastest first")
	})
}

// A switch answers for a host that is gone, but the host does not when it is asked alone.
func TestWhoHasOnlyByBroadcast(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		arrange(t, w, sock)
		sock.mu.Lock()
		sock.onSend = func(f sentFrame) {
			if bytes.Equal(f.to, broadcast) {
				go sock.announce(vip, peerMAC)
			}
		}
		sock.mu.Unlock()
		answers, err := w.WhoHas(t.Context(), query())
		require.NoError(t, err)
		require.Len(t, answers, 1)
		require.False(t, answers[0].Direct)
	})
}

// On a link that loses every second frame, a station is found in one of three tries.
func TestWhoHasOnLossyLink(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.set(vip, true)
		s.peer.loss = 0.3
		found := 0
		for range 100 {
			answers, err := w.WhoHas(t.Context(), query())
			require.NoError(t, err)
			found += len(answers)
		}
		require.Greater(t, found, 75)
	})
}

func TestWhoHasInvalid(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		for _, change := range []func(*Query){
			func(q *Query) { q.Addr = vip6 },
			func(q *Query) { q.Tries = 0 },
			func(q *Query) { q.Window = 0 },
		} {
			q := query()
			change(&q)
			_, err := w.WhoHas(t.Context(), q)
			require.Error(t, err)
		}
		sock.failWith(unix.ENETDOWN)
		_, err := w.WhoHas(t.Context(), query())
		require.ErrorIs(t, err, ErrNotSent, "silence would mean nothing")
	})
}
