package announcer

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// While one echo is under way, all that come share the next.
func TestEchoShared(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		peer := newStation(peerMAC, peerAddr)
		peer.delay = time.Millisecond
		sock.connect(t, peer)
		n := w.neighbors.of(peerHost, source)
		require.Same(t, n, w.neighbors.of(Host{Addr: peerAddr, MACs: peerHost.MACs}, source))
		require.NotSame(t, n, w.neighbors.of(Host{Addr: peerAddr}, source))
		require.NotSame(t, n, w.neighbors.of(peerHost, thirdAddr))

		start := time.Now()
		var askers sync.WaitGroup
		var mu sync.Mutex
		echoes := map[*echo]int{}
		for i := range 50 {
			askers.Go(func() {
				if i > 0 {
					time.Sleep(time.Millisecond / 2)
				}
				called := time.Now()
				e, err := w.echo(t.Context(), n, 0)
				require.NoError(t, err)
				require.False(t, e.at.Before(called))
				<-e.heard
				mu.Lock()
				defer mu.Unlock()
				echoes[e]++
			})
		}
		askers.Wait()
		require.Equal(t, 2*time.Millisecond, time.Since(start))
		require.Len(t, echoes, 2)
		require.Equal(t, 2, peer.count(peerAddr))
		for _, f := range sock.frames() {
			require.Equal(t, peerMAC, f.to)
			require.Equal(t, source, f.SenderIP)
		}
		at, mac := n.lastAnswer()
		require.Equal(t, time.Now(), at)
		require.Equal(t, peerMAC, mac)
		require.Equal(t, peerMAC, w.neighbors.lastMAC(peerAddr))
		require.False(t, n.waiting())
	})
}

// A silent host delays the next echo by 2 ms only. An answer belongs to the oldest
// echo without one whose window is not over.
func TestEchoUnanswered(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		n := w.neighbors.of(peerHost, source)
		start := time.Now()
		var echoes []*echo
		for i := range 6 {
			e, err := w.echo(t.Context(), n, 0)
			require.NoError(t, err)
			require.Equal(t, time.Duration(i)*echoSpacing, e.at.Sub(start))
			echoes = append(echoes, e)
		}
		require.True(t, n.waiting())
		answer := func(mac net.HardwareAddr) {
			sock.in <- received{frame: Inbound{Received: time.Now(), Payload: newStation(mac).reply(sentFrame{Packet: sock.frames()[0].Packet})}}
			synctest.Wait()
		}
		answer(thirdMAC)
		answer(broadcast)
		for _, e := range echoes {
			require.False(t, e.answered(), "not from the host")
		}
		answer(peerMAC)
		require.False(t, echoes[0].answered(), "its window is over")
		require.True(t, echoes[1].answered())
		require.False(t, echoes[2].answered())
		time.Sleep(answerWindow)
		answer(peerMAC)
		require.False(t, echoes[2].answered())
		require.False(t, n.waiting())
	})
}

// The caller that was to send an echo for others ends before its turn.
func TestEchoAbandoned(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		n := w.neighbors.of(peerHost, source)
		_, err := w.echo(t.Context(), n, 0)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := w.echo(ctx, n, 0)
			first <- err
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			_, err := w.echo(t.Context(), n, 0)
			second <- err
		}()
		synctest.Wait()
		cancel()
		require.Error(t, <-first)
		require.ErrorIs(t, <-second, errAbandoned)
		_, err = w.echo(t.Context(), n, 0)
		require.NoError(t, err, "the next one is sent")

		sock.failWith(unix.ENOBUFS)
		_, err = w.echo(t.Context(), n, 0)
		require.ErrorIs(t, err, ErrNotSent)
		sock.failWith(nil)
		_, err = w.echo(t.Context(), n, 0)
		require.NoError(t, err)
	})
}
