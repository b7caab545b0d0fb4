package announcer

import (
	"net"
	"net/netip"
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
		require.NoError(t, w.SendReady(t.Context(), vip, peerMAC))
		require.NoError(t, w.SendReady(t.Context(), vip, nil))
		require.Len(t, sock.frames(), 2)
		for i, to := range []net.HardwareAddr{peerMAC, broadcast} {
			frame := sock.frames()[i]
			require.Equal(t, to, frame.to)
			require.Equal(t, arp.OperationRequest, frame.Operation)
			require.True(t, frame.SenderIP.IsUnspecified(), "no cache may learn from it")
			require.Equal(t, vip, frame.TargetIP)
		}
		require.ErrorIs(t, w.SendReady(t.Context(), netip.MustParseAddr("fd00::64"), peerMAC), ErrUnsupportedFamily)
	})
}

func TestAwaitReady(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		handover := w.Handover(vip)
		defer handover.Close()
		start := time.Now()
		require.False(t, handover.AwaitReady(t.Context(), time.Second))
		require.Equal(t, time.Second, time.Since(start))
		sock.probe(otherVIP, peerMAC)
		sock.announce(vip, peerMAC)
		require.False(t, handover.AwaitReady(t.Context(), time.Second), "a probe for another address and an announcement are not ready frames")

		time.AfterFunc(time.Millisecond, func() { sock.probe(vip, peerMAC) })
		require.True(t, handover.AwaitReady(t.Context(), time.Second))
		require.False(t, handover.AwaitReleased(t.Context(), peerMAC, time.Second), "a frame counts once")
		sock.probe(vip, peerMAC)
		time.Sleep(maxFrameAge + time.Millisecond)
		require.False(t, handover.AwaitReady(t.Context(), time.Second), "too long ago")
	})
}

func TestAwaitReleased(t *testing.T) {
	const timeout = 50 * time.Millisecond
	tests := map[string]struct {
		receive func(s *fakeSocket)
		want    bool
		took    time.Duration
	}{
		"no frame":       {func(*fakeSocket) {}, false, timeout},
		"too old":        {func(s *fakeSocket) { s.probe(vip, peerMAC); time.Sleep(maxFrameAge + time.Millisecond) }, false, timeout},
		"one second old": {func(s *fakeSocket) { s.probe(vip, peerMAC); time.Sleep(maxFrameAge) }, true, 0},
		"twice":          {func(s *fakeSocket) { s.probe(vip, peerMAC); s.probe(vip, peerMAC) }, true, 0},
		"meanwhile":      {func(s *fakeSocket) { time.AfterFunc(timeout/2, func() { s.probe(vip, peerMAC) }) }, true, timeout / 2},
		"another sender": {func(s *fakeSocket) { s.probe(vip, secondMAC) }, false, timeout},
		"another sender, then meanwhile": {func(s *fakeSocket) {
			s.probe(vip, secondMAC)
			time.AfterFunc(timeout/2, func() { s.probe(vip, peerMAC) })
		}, true, timeout / 2},
		"another address":            {func(s *fakeSocket) { s.probe(otherVIP, peerMAC) }, false, timeout},
		"probe, then announcement":   {func(s *fakeSocket) { s.probe(vip, peerMAC); s.announce(vip, peerMAC) }, false, timeout},
		"probe, announcement, probe": {func(s *fakeSocket) { s.probe(vip, peerMAC); s.announce(vip, peerMAC); s.probe(vip, peerMAC) }, true, 0},
		"others in between":          {func(s *fakeSocket) { s.probe(vip, peerMAC); s.probe(vip, secondMAC); s.announce(vip, secondMAC) }, true, 0},
		"announcement":               {func(s *fakeSocket) { s.announce(vip, peerMAC) }, false, timeout},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				handover := w.Handover(vip)
				test.receive(sock)
				synctest.Wait()
				start := time.Now()
				require.Equal(t, test.want, handover.AwaitReleased(t.Context(), peerMAC, timeout))
				require.Equal(t, test.took, time.Since(start))
				handover.Close()
				handover.Close()
				sock.probe(vip, peerMAC)
				synctest.Wait()
				require.False(t, handover.AwaitReleased(t.Context(), peerMAC, timeout), "closed")
			})
		})
	}
}
