package announcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// manyVIPs returns n addresses.
func manyVIPs(n int) (all []netip.Addr) {
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)}))
	}
	return all
}

// proveMany proves that all these addresses are free, at once, and returns how long
// the slowest took after the moment that free returns.
func (s *scene) proveMany(t *testing.T, all []netip.Addr, c ProofConfig, free func() time.Time) time.Duration {
	t.Helper()
	ended := make(chan error, len(all))
	for _, addr := range all {
		c := c
		c.Addr = addr
		go func() {
			_, err := s.wire.Prove(t.Context(), c)
			ended <- err
		}()
	}
	at := free()
	for range all {
		require.NoError(t, <-ended)
	}
	return time.Since(at)
}

// A hundred addresses are let go at one moment.
func TestProveMany(t *testing.T) {
	for name, owned := range map[string]bool{"let go before": false, "owned before": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				s := arrange(t, w, sock)
				s.peer.delay = 100 * time.Microsecond
				all := manyVIPs(100)
				for _, addr := range all {
					s.peer.set(addr, owned)
				}
				c := peerConfig()
				c.Timeout = time.Minute
				took := s.proveMany(t, all, c, func() time.Time {
					if owned {
						time.Sleep(2 * time.Second)
						require.InDelta(t, 2*ownedRate, len(sock.frames()), 500)
						for _, addr := range all {
							s.peer.set(addr, false)
						}
					}
					return time.Now()
				})
				t.Logf("proved within %s, with %d requests for the host's own address", took, s.peer.count(peerAddr))
				require.Less(t, took, 80*time.Millisecond)
			})
		})
	}
}

// All addresses of a dead host, with one witness for all.
func TestProveManyOfADeadHost(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.die(true)
		for many, limit := range map[int]time.Duration{40: 3 * WitnessedSilence / 2, 300: time.Second} {
			asked := s.gateway.count(gatewayAddr)
			c := peerConfig()
			c.Timeout = time.Minute
			took := s.proveMany(t, manyVIPs(many), c, time.Now)
			asked = s.gateway.count(gatewayAddr) - asked
			t.Logf("%d addresses proved within %s, the gateway was asked %d times", many, took, asked)
			require.Less(t, took, limit)
			require.Less(t, asked, int(limit/time.Millisecond))
		}
	})
}
