package announcer

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOpenWithoutEthernetAddress(t *testing.T) {
	_, err := Open(&net.Interface{Index: 1, Name: "lo"}, IPv4, Options{})
	require.ErrorIs(t, err, ErrUnsupportedInterface)
}

func TestRunContinuesAfterReadErrors(t *testing.T) {
	var log logBuffer
	o := Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
	inBubble(t, o, func(t *testing.T, w *Wire, sock *fakeSocket) {
		l := w.Listen(vip)
		defer l.Close()
		for range 8 {
			sock.in <- received{err: unix.ENOMEM}
		}
		for range 100 { // the link flaps
			sock.in <- received{err: unix.ENETDOWN}
			time.Sleep(time.Second)
		}
		sock.announce(vip, peerMAC)
		synctest.Wait()
		require.Len(t, takeClaims(l), 1)
		require.Equal(t, 1, log.count("receiving failed, trying again"))
		require.Equal(t, 1, log.count("receiving works again"))
	})
}

func TestRunEndsWithReadErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		after time.Duration
	}{
		"keeps failing":     {unix.ENOMEM, maxFailing},
		"interface deleted": {ErrInterfaceGone, 0},
		"no such device":    {unix.ENODEV, 0},
		"bad descriptor":    {unix.EBADF, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sock := newFakeSocket()
				w := New(sock, ourMAC, IPv4, Options{})
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
