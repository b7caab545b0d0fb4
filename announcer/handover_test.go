package announcer

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
)

func TestSendReleased(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		require.NoError(t, w.SendReleased(t.Context(), vip))
		require.Len(t, sock.frames(), 1)
		frame := sock.frames()[0]
		require.Equal(t, broadcast, frame.to)
		require.Equal(t, arp.OperationRequest, frame.Operation)
		require.True(t, frame.SenderIP.IsUnspecified(), "no cache may learn from it")
		require.Equal(t, vip, frame.TargetIP)
		require.Equal(t, ourMAC, frame.SenderHardwareAddr)
		require.ErrorIs(t, w.SendReleased(t.Context(), netip.MustParseAddr("fd00::64")), ErrUnsupportedFamily)
	})
}

func TestSendReady(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		require.NoError(t, w.SendReady(t.Context(), vip, rivalMAC))
		require.NoError(t, w.SendReady(t.Context(), vip, nil))
		require.Len(t, sock.frames(), 2)
		for i, to := range []net.HardwareAddr{rivalMAC, broadcast} {
			frame := sock.frames()[i]
			require.Equal(t, to, frame.to)
			require.Equal(t, arp.OperationRequest, frame.Operation)
			require.True(t, frame.SenderIP.IsUnspecified(), "no cache may learn from it")
			require.Equal(t, vip, frame.TargetIP)
		}
		require.ErrorIs(t, w.SendReady(t.Context(), netip.MustParseAddr("fd00::64"), rivalMAC), ErrUnsupportedFamily)
	})
}

func TestAwaitReady(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		handover := w.Handover(vip)
		defer handover.Close()
		began := time.Now()
		require.False(t, handover.AwaitReady(t.Context(), time.Second))
		require.Equal(t, time.Second, time.Since(began))
		sock.probe(otherVIP, rivalMAC)
		sock.say(vip, rivalMAC)
		require.False(t, handover.AwaitReady(t.Context(), time.Second), "that was about another address, and no question")

		time.AfterFunc(time.Millisecond, func() { sock.probe(vip, rivalMAC) })
		require.True(t, handover.AwaitReady(t.Context(), time.Second))
		require.False(t, handover.AwaitReleased(t.Context(), rivalMAC, time.Second), "a call that was heard is no yield any more")
		sock.probe(vip, rivalMAC)
		time.Sleep(heardAgo + time.Millisecond)
		require.False(t, handover.AwaitReady(t.Context(), time.Second), "too long ago")
	})
}

func TestAwaitReleased(t *testing.T) {
	const patience = 50 * time.Millisecond
	tests := map[string]struct {
		say  func(sock *fakeSocket)
		want bool
		took time.Duration
	}{
		"never":         {func(*fakeSocket) {}, false, patience},
		"long ago":      {func(s *fakeSocket) { s.probe(vip, rivalMAC); time.Sleep(heardAgo + time.Millisecond) }, false, patience},
		"just before":   {func(s *fakeSocket) { s.probe(vip, rivalMAC); time.Sleep(heardAgo) }, true, 0},
		"twice":         {func(s *fakeSocket) { s.probe(vip, rivalMAC); s.probe(vip, rivalMAC) }, true, 0},
		"meanwhile":     {func(s *fakeSocket) { time.AfterFunc(patience/2, func() { s.probe(vip, rivalMAC) }) }, true, patience / 2},
		"somebody else": {func(s *fakeSocket) { s.probe(vip, secondMAC) }, false, patience},
		"another one":   {func(s *fakeSocket) { s.probe(otherVIP, rivalMAC) }, false, patience},
		"a question, then the address bound and announced": {func(s *fakeSocket) { s.probe(vip, rivalMAC); s.say(vip, rivalMAC) }, false, patience},
		"announced, then yielded":                          {func(s *fakeSocket) { s.probe(vip, rivalMAC); s.say(vip, rivalMAC); s.probe(vip, rivalMAC) }, true, 0},
		"others in between":                                {func(s *fakeSocket) { s.probe(vip, rivalMAC); s.probe(vip, secondMAC); s.say(vip, secondMAC) }, true, 0},
		"a claim":                                          {func(s *fakeSocket) { s.say(vip, rivalMAC) }, false, patience},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				handover := w.Handover(vip)
				test.say(sock)
				synctest.Wait()
				began := time.Now()
				require.Equal(t, test.want, handover.AwaitReleased(t.Context(), rivalMAC, patience))
				require.Equal(t, test.took, time.Since(began))
				handover.Close()
				handover.Close()
				sock.probe(vip, rivalMAC)
				synctest.Wait()
				require.False(t, handover.AwaitReleased(t.Context(), rivalMAC, patience), "closed")
			})
		})
	}
}

func TestAnnounceOnlyWhatItMay(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		var entitled atomic.Bool
		entitled.Store(true)
		ended := make(chan error, 1)
		again := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			ended <- w.Announce(ctx, Announcement{Addr: vip, Schedule: steady(time.Second, 0), MayAnnounce: entitled.Load}, again)
		}()
		synctest.Wait()
		require.Len(t, sock.frames(), 2)
		entitled.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, sock.frames(), 2)
		entitled.Store(true)
		again <- struct{}{}
		synctest.Wait()
		require.Len(t, sock.frames(), 4)
		cancel()
		require.NoError(t, <-ended)
	})
}
