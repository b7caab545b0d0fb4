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
	"golang.org/x/sys/unix"
)

func heard(l *Listener) (claims []Claim) {
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
		sock.say(vip, rivalMAC) // before anybody listens
		synctest.Wait()
		l := w.Listen(vip)
		mapped := w.Listen(netip.MustParseAddr("::ffff:10.77.0.100"))
		other := w.Listen(otherVIP)
		v6 := w.Listen(netip.MustParseAddr("fd00::64"))

		time.Sleep(time.Second)
		now := time.Now()
		sock.say(vip, rivalMAC)
		sock.say(vip, ourMAC)
		synctest.Wait()
		want := []Claim{{Addr: vip, MAC: rivalMAC, Received: now}}
		require.Equal(t, want, heard(l))
		require.Equal(t, want, heard(mapped))
		require.Empty(t, heard(other))
		require.Empty(t, heard(v6))

		l.Close()
		l.Close()
		sock.say(vip, rivalMAC)
		synctest.Wait()
		require.Empty(t, heard(l))
		require.Len(t, heard(mapped), 1, "closing one leaves the others alone")

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
			sock.say(vip, secondMAC)
		}
		sock.say(vip, rivalMAC)
		synctest.Wait()
		claims := heard(l)
		require.Len(t, claims, 1)
		require.Equal(t, rivalMAC, claims[0].MAC, "the latest wins")
	})
}

func TestOwn(t *testing.T) {
	var log logBuffer
	var asked []string
	o := Options{
		Logger: hclog.New(&hclog.LoggerOptions{Output: &log}),
		Own: func(mac net.HardwareAddr) (bool, error) {
			asked = append(asked, mac.String())
			if mac.String() == rivalMAC.String() {
				return true, errors.New("netlink is out") // what comes with an error is no answer
			}
			return mac.String() == secondMAC.String(), nil
		},
	}
	inBubble(t, o, func(t *testing.T, w *Wire, sock *fakeSocket) {
		l := w.Listen(vip)
		defer l.Close()
		sock.say(vip, ourMAC)
		sock.say(vip, secondMAC)
		synctest.Wait()
		require.Empty(t, heard(l))
		require.Equal(t, []string{secondMAC.String()}, asked, "our own MAC needs no asking")

		sock.say(vip, rivalMAC)
		sock.say(vip, rivalMAC)
		synctest.Wait()
		require.Len(t, heard(l), 1, "whose MAC cannot be looked up is a rival")
		require.Equal(t, 1, log.count("netlink is out"))

		w.SetHardwareAddr(rivalMAC)
		sock.say(vip, rivalMAC)
		synctest.Wait()
		require.Empty(t, heard(l))
	})
}

func TestRunRidesOutTrouble(t *testing.T) {
	var log logBuffer
	o := Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
	inBubble(t, o, func(t *testing.T, w *Wire, sock *fakeSocket) {
		l := w.Listen(vip)
		defer l.Close()
		for range 8 {
			sock.in <- received{err: unix.ENOMEM}
		}
		for range 100 { // a link that flaps
			sock.in <- received{err: unix.ENETDOWN}
			time.Sleep(time.Second)
		}
		sock.say(vip, rivalMAC)
		synctest.Wait()
		require.Len(t, heard(l), 1)
		require.Equal(t, 1, log.count("receiving fails"))
		require.Equal(t, 1, log.count("receiving works again"))
	})
}

func TestRunGivesUp(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		after time.Duration
	}{
		"keeps failing":     {unix.ENOMEM, maxPatience},
		"interface deleted": {ErrInterfaceGone, 0},
		"no such device":    {unix.ENODEV, 0},
		"bad descriptor":    {unix.EBADF, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sock := newFakeSocket()
				w := newWire(sock, ourMAC, Options{})
				start := time.Now()
				go func() {
					for {
						select {
						case sock.in <- received{err: tc.err}:
						case <-sock.closed:
							return
						}
					}
				}()
				require.ErrorIs(t, w.Run(t.Context()), tc.err)
				require.InDelta(t, tc.after.Seconds(), time.Since(start).Seconds(), 1)
			})
		})
	}
}

// Failures far from each other are not one long failure.
func TestTrouble(t *testing.T) {
	var tr trouble
	now := time.Now()
	for range 3 {
		now = now.Add(time.Minute)
		want := minPause
		for range 7 {
			pause, err := tr.after(unix.ENOMEM, now)
			require.NoError(t, err)
			require.Equal(t, want, pause)
			now = now.Add(pause)
			want = min(2*want, maxPause)
		}
	}
}
