package announcer

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSendReleased(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		require.NoError(t, w.SendReleased(t.Context(), vip, nil, Nonce{}))
		require.Len(t, sock.frames(), 1)
		frame := sock.frames()[0]
		require.Equal(t, broadcast, frame.to)
		require.Equal(t, arp.OperationRequest, frame.Operation)
		require.True(t, frame.SenderIP.IsUnspecified(), "no cache may learn from it")
		require.Equal(t, vip, frame.TargetIP)
		require.Equal(t, ourMAC, frame.SenderHardwareAddr)
		require.ErrorIs(t, w.SendReleased(t.Context(), netip.MustParseAddr("fd00::64"), nil, Nonce{}), ErrUnsupportedFamily)
	})
}

func TestSendReady(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		require.NoError(t, w.SendReady(t.Context(), vip, peerMAC, Nonce{}))
		require.NoError(t, w.SendReady(t.Context(), vip, nil, Nonce{}))
		require.Len(t, sock.frames(), 2)
		for i, to := range []net.HardwareAddr{peerMAC, broadcast} {
			frame := sock.frames()[i]
			require.Equal(t, to, frame.to)
			require.Equal(t, arp.OperationRequest, frame.Operation)
			require.True(t, frame.SenderIP.IsUnspecified(), "no cache may learn from it")
			require.Equal(t, vip, frame.TargetIP)
		}
		require.ErrorIs(t, w.SendReady(t.Context(), netip.MustParseAddr("fd00::64"), peerMAC, Nonce{}), ErrUnsupportedFamily)
	})
}

func TestAwaitReady(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		handover := w.Handover(vip)
		defer handover.Close()
		start := time.Now()
		require.False(t, handover.AwaitReady(t.Context(), Nonce{}, time.Second))
		require.Equal(t, time.Second, time.Since(start))
		sock.probe(otherVIP, peerMAC)
		sock.announce(vip, peerMAC)
		require.False(t, handover.AwaitReady(t.Context(), Nonce{}, time.Second), "a probe for another address and an announcement are not ready frames")

		time.AfterFunc(time.Millisecond, func() { sock.probe(vip, peerMAC) })
		require.True(t, handover.AwaitReady(t.Context(), Nonce{}, time.Second))
		require.False(t, handover.AwaitReleased(t.Context(), peerMAC, Nonce{}, time.Second), "a frame counts once")
		sock.probe(vip, peerMAC)
		time.Sleep(maxFrameAge + time.Millisecond)
		require.False(t, handover.AwaitReady(t.Context(), Nonce{}, time.Second), "too long ago")
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
				require.Equal(t, test.want, handover.AwaitReleased(t.Context(), peerMAC, Nonce{}, timeout))
				require.Equal(t, test.took, time.Since(start))
				handover.Close()
				handover.Close()
				sock.probe(vip, peerMAC)
				synctest.Wait()
				require.False(t, handover.AwaitReleased(t.Context(), peerMAC, Nonce{}, timeout), "closed")
			})
		})
	}
}

// The words of a handover carry its nonce. They reach the successor by two ways.
func TestSendWordsWithNonce(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		require.NoError(t, w.SendReady(t.Context(), vip, peerMAC, nonce))
		require.NoError(t, w.SendReleased(t.Context(), vip, peerMAC, nonce))
		require.NoError(t, w.SendReleased(t.Context(), vip, ourMAC, nonce))
		var to []net.HardwareAddr
		for _, frame := range sock.frames() {
			to = append(to, frame.to)
			require.Equal(t, arp.OperationRequest, frame.Operation)
			require.True(t, frame.SenderIP.IsUnspecified())
			require.Equal(t, net.HardwareAddr(nonce[:]), frame.TargetHardwareAddr)
			require.Equal(t, vip, frame.TargetIP)
		}
		require.Equal(t, []net.HardwareAddr{peerMAC, peerMAC, broadcast, broadcast}, to)

		sock.failWith(unix.ENOBUFS)
		require.ErrorIs(t, w.SendReleased(t.Context(), vip, peerMAC, nonce), ErrNotSent)
	})
}

var nonce, otherNonce = Nonce{1, 2, 3, 4, 5, 6}, Nonce{6, 5, 4, 3, 2, 1}

func TestAwaitWordsWithNonce(t *testing.T) {
	const timeout = 50 * time.Millisecond
	third := net.HardwareAddr{0x02, 0, 0, 0, 0, 0x77}
	tests := map[string]struct {
		receive         func(s *fakeSocket)
		ready, released bool
	}{
		"no frame":             {func(*fakeSocket) {}, false, false},
		"plain probe":          {func(s *fakeSocket) { s.probe(vip, peerMAC) }, false, false},
		"word":                 {func(s *fakeSocket) { s.word(vip, peerMAC, nonce) }, true, true},
		"another handover":     {func(s *fakeSocket) { s.word(vip, peerMAC, otherNonce) }, false, false},
		"another address":      {func(s *fakeSocket) { s.word(otherVIP, peerMAC, nonce) }, false, false},
		"another MAC":          {func(s *fakeSocket) { s.word(vip, third, nonce) }, true, true},
		"our own, returned":    {func(s *fakeSocket) { s.word(vip, ourMAC, nonce) }, false, false},
		"own, of another link": {func(s *fakeSocket) { s.word(vip, secondMAC, nonce) }, false, false},
		"word, then probe":     {func(s *fakeSocket) { s.word(vip, peerMAC, nonce); s.probe(vip, peerMAC) }, true, true},
		"word, then another":   {func(s *fakeSocket) { s.word(vip, peerMAC, nonce); s.word(vip, peerMAC, otherNonce) }, true, true},
		"word, then claim":     {func(s *fakeSocket) { s.word(vip, peerMAC, nonce); s.announce(vip, peerMAC) }, false, false},
		"too old":              {func(s *fakeSocket) { s.word(vip, peerMAC, nonce); time.Sleep(maxFrameAge + 1) }, false, false},
		"meanwhile": {func(s *fakeSocket) {
			time.AfterFunc(timeout/2, func() { s.word(vip, peerMAC, nonce) })
		}, true, true},
	}
	own := func(mac net.HardwareAddr) (bool, error) { return mac.String() == secondMAC.String(), nil }
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Own: own}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				owner, successor := w.Handover(vip), w.Handover(vip)
				defer owner.Close()
				defer successor.Close()
				test.receive(sock)
				synctest.Wait()
				released := make(chan bool)
				go func() { released <- successor.AwaitReleased(t.Context(), peerMAC, nonce, timeout) }()
				require.Equal(t, test.ready, owner.AwaitReady(t.Context(), nonce, timeout))
				require.Equal(t, test.released, <-released)
				require.False(t, successor.AwaitReleased(t.Context(), peerMAC, nonce, timeout), "a frame counts once")
			})
		})
	}
}

// An older owner knows no nonce: a word that carries one does not count as its plain
// probe, but as ready it does.
func TestAwaitWithoutNonce(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		h := w.Handover(vip)
		defer h.Close()
		sock.word(vip, peerMAC, nonce)
		synctest.Wait()
		require.False(t, h.AwaitReleased(t.Context(), peerMAC, Nonce{}, time.Millisecond))
		require.True(t, h.AwaitReady(t.Context(), Nonce{}, 0))
	})
}

func TestAwaitWithoutTimeout(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		h := w.Handover(vip)
		defer h.Close()
		time.AfterFunc(time.Hour, func() { sock.word(vip, peerMAC, nonce) })
		require.True(t, h.AwaitReleased(t.Context(), peerMAC, nonce, -1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.False(t, h.AwaitReleased(ctx, peerMAC, nonce, -1))
		require.False(t, h.AwaitReady(ctx, nonce, -1))
	})
}
