package announcer

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// takeClaims returns the claims that wait in the channel.
func takeClaims(l *Listener) (claims []Claim) {
	for {
		select {
		case c := <-l.Claims():
			claims = append(claims, c)
		default:
			return claims
		}
	}
}

func TestListen(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		sock.announce(vip, peerMAC) // before the first Listener
		synctest.Wait()
		l := w.Listen(vip)
		mapped := w.Listen(netip.MustParseAddr("::ffff:10.77.0.100"))
		other := w.Listen(otherVIP)
		v6 := w.Listen(netip.MustParseAddr("fd00::64"))

		time.Sleep(time.Second)
		now := time.Now()
		sock.announce(vip, peerMAC)
		sock.announce(vip, ourMAC)
		synctest.Wait()
		want := []Claim{{Addr: vip, MAC: peerMAC, Received: now}}
		require.Equal(t, want, takeClaims(l))
		require.Equal(t, want, takeClaims(mapped))
		require.Empty(t, takeClaims(other))
		require.Empty(t, takeClaims(v6))

		l.Close()
		l.Close()
		sock.announce(vip, peerMAC)
		synctest.Wait()
		require.Empty(t, takeClaims(l))
		require.Len(t, takeClaims(mapped), 1, "the other one stays open")

		counts := w.Counts()
		require.EqualValues(t, 2, counts[VerdictClaim])
		require.EqualValues(t, 1, counts[VerdictOwn])
		require.EqualValues(t, 1, counts[VerdictOtherAddress])
	})
}

func TestListenCoalesces(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		l := w.Listen(vip)
		defer l.Close()
		for range 100 {
			sock.announce(vip, secondMAC)
		}
		sock.announce(vip, peerMAC)
		synctest.Wait()
		claims := takeClaims(l)
		require.Len(t, claims, 1)
		require.Equal(t, peerMAC, claims[0].MAC, "the latest claim")
	})
}

func TestOwn(t *testing.T) {
	var log logBuffer
	var lookups []string
	o := Options{
		Logger: hclog.New(&hclog.LoggerOptions{Output: &log}),
		Own: func(mac net.HardwareAddr) (bool, error) {
			lookups = append(lookups, mac.String())
			if mac.String() == peerMAC.String() {
				return true, errors.New("netlink failed") // the result does not count
			}
			return mac.String() == secondMAC.String(), nil
		},
	}
	inBubble(t, o, func(t *testing.T, w *Wire, sock *fakeSocket) {
		l := w.Listen(vip)
		defer l.Close()
		sock.announce(vip, ourMAC)
		sock.announce(vip, secondMAC)
		synctest.Wait()
		require.Empty(t, takeClaims(l))
		require.Equal(t, []string{secondMAC.String()}, lookups, "the MAC of the interface is known")

		sock.announce(vip, peerMAC)
		sock.announce(vip, peerMAC)
		synctest.Wait()
		require.Len(t, takeClaims(l), 1, "a MAC counts as foreign if the lookup fails")
		require.Equal(t, 1, log.count("netlink failed"))

		w.SetHardwareAddr(peerMAC)
		sock.announce(vip, peerMAC)
		synctest.Wait()
		require.Empty(t, takeClaims(l))
	})
}
