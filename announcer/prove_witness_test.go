package announcer

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A witness that has answered before must answer. After the timeout nobody needs to.
func TestProveGatewayFallsSilent(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		c := peerConfig()
		c.Witnesses.Others = []Host{thirdHost} // never counts, because the gateway has answered
		s.peer.die(true)
		require.Equal(t, ProvedByWitness, s.prove(t, c).By)
		s.gateway.die(true)
		start := time.Now()
		require.Equal(t, ProvedBySilence, s.prove(t, c).By)
		require.Equal(t, time.Second+LoneSilence-answerWindow, time.Since(start))

		// It answers again meanwhile.
		start = time.Now()
		s.after(305*time.Millisecond, func() { s.gateway.die(false) })
		require.Equal(t, ProvedByWitness, s.prove(t, c).By)
		require.InDelta(t, (305*time.Millisecond + WitnessedSilence).Seconds(), time.Since(start).Seconds(), 0.011)
	})
}

// A witness is asked by broadcast until its MAC is known, and when it is silent there.
func TestProveLearnsTheWitness(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.die(true)
		s.prove(t, peerConfig())
		require.Len(t, sock.sentTo(broadcast, gatewayAddr), 1)
		require.Len(t, sock.sentTo(gatewayMAC, gatewayAddr), 7)

		backup := newStation(net.HardwareAddr{0x02, 0, 0, 0, 0, 0xfd}, gatewayAddr)
		sock.connect(t, s.peer, backup)
		s.prove(t, peerConfig())
		require.Len(t, sock.sentTo(gatewayMAC, gatewayAddr), 8)
		require.Len(t, sock.sentTo(broadcast, gatewayAddr), 2)
		require.Len(t, sock.sentTo(backup.mac, gatewayAddr), 7)
	})
}

// The gateway answers with the MAC of an owner: it is the watched host.
func TestProveGatewayIsTheOwner(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.gateway.from = peerMAC
		s.peer.die(true)
		require.Equal(t, ProvedBySilence, s.prove(t, peerConfig()).By)
	})
}

// An owner that has let the address go bears witness for the silence of another one.
func TestProveOwnerBearsWitness(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.gateway.die(true)
		s.peer.die(true)
		c := peerConfig()
		c.Owners = []Host{peerHost, thirdHost}
		c.Witnesses.Others = []Host{peerHost, thirdHost}
		c.Timeout = time.Minute
		require.Equal(t, ProvedByWitness, s.prove(t, c).By)

		// It falls silent too: the network may be dead, and the other one alive. Nothing is
		// proved until it is heard again, and the other one has let go.
		s.third.die(false)
		s.after(20*time.Millisecond, func() { s.third.die(true) })
		s.after(2*time.Second, func() {
			s.third.die(false)
			s.peer.die(false)
			s.peer.set(vip, true)
		})
		s.after(3*time.Second, func() { s.peer.set(vip, false) })
		began := time.Now()
		require.Equal(t, ProvedByAnswer, s.prove(t, c).By)
		require.Greater(t, time.Since(began), 3*time.Second)
	})
}

// TestMeet meets a gateway that comes later. Until then it is asked ever more rarely.
func TestMeet(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.gateway.die(true)
		met := make(chan error, 1)
		go func() { met <- w.Meet(t.Context(), source, gatewayAddr) }()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 7, s.gateway.count(gatewayAddr), "at 0, 10, 30, 70, 150, 310 and 630 ms")
		require.Nil(t, w.neighbors.lastMAC(gatewayAddr))
		s.gateway.die(false)
		require.NoError(t, <-met)
		require.Equal(t, gatewayMAC, w.neighbors.lastMAC(gatewayAddr))
		require.Equal(t, 8, s.gateway.count(gatewayAddr))

		require.NoError(t, w.Meet(t.Context(), source, gatewayAddr))
		require.Equal(t, 8, s.gateway.count(gatewayAddr), "it is known")
		require.ErrorIs(t, w.Meet(t.Context(), source, vip6), ErrUnsupportedFamily)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, w.Meet(ctx, source, otherVIP), context.Canceled)
	})
}
