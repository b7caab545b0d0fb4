package announcer

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var ms = func(n ...int) (d []time.Duration) {
	for _, n := range n {
		d = append(d, time.Duration(n)*time.Millisecond)
	}
	return d
}

func TestAnnounceSchedule(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		require.NoError(t, w.Announce(ctx, Announcement{Addr: vip, Schedule: fixed(10*time.Second, 0)}, nil))
		want := ms(0, 200, 1100, 2200, 4400, 14400, 24400)
		require.Equal(t, want, sock.offsets(arp.OperationRequest, start))
		require.Equal(t, want, sock.offsets(arp.OperationReply, start))
		for _, s := range sock.frames() {
			require.Equal(t, broadcast, s.to)
			require.Equal(t, ourMAC, s.SenderHardwareAddr)
			require.Equal(t, vip, s.SenderIP)
			require.Equal(t, vip, s.TargetIP)
		}
		sent := len(sock.frames())
		time.Sleep(time.Hour)
		require.Len(t, sock.frames(), sent, "no frame is sent after Announce has returned")
	})
}

// A new interval applies after the next announcement, which keeps its time.
func TestAnnounceNewSchedule(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		schedule := func() Schedule {
			if time.Since(start) < 6*time.Second {
				return Schedule{Interval: 10 * time.Second}
			}
			return Schedule{Interval: 2 * time.Second}
		}
		require.NoError(t, w.Announce(ctx, Announcement{Addr: vip, Schedule: schedule}, nil))
		require.Equal(t, ms(0, 200, 1100, 2200, 4400, 14400, 16400, 18400),
			sock.offsets(arp.OperationRequest, start))
	})
}

func TestAnnounceMappedAddress(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		mapped := netip.MustParseAddr("::ffff:10.77.0.100")
		require.NoError(t, w.Announce(ctx, Announcement{Addr: mapped, Schedule: fixed(time.Second, 0)}, nil))
		require.Equal(t, vip, sock.frames()[0].SenderIP)
	})
}

func TestAnnounceAgain(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		again := make(chan struct{})
		ended := make(chan error)
		go func() { ended <- w.Announce(ctx, Announcement{Addr: vip, Schedule: fixed(10*time.Second, 0)}, again) }()
		time.Sleep(time.Second)
		again <- struct{}{}
		time.Sleep(2 * time.Second)
		close(again)
		require.NoError(t, <-ended)
		require.Equal(t, ms(0, 200, 1000, 1200, 2100, 3000, 3200, 4100, 5200, 7400),
			sock.offsets(arp.OperationRequest, start))
	})
}

func TestAnnounceNewMAC(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		time.AfterFunc(100*time.Millisecond, func() {
			w.SetHardwareAddr(secondMAC)
			w.SetHardwareAddr(nil) // not taken
		})
		require.NoError(t, w.Announce(ctx, Announcement{Addr: vip, Schedule: fixed(time.Second, 0)}, nil))
		frames := sock.frames()
		require.Len(t, frames, 4)
		require.Equal(t, ourMAC, frames[0].SenderHardwareAddr)
		require.Equal(t, secondMAC, frames[2].SenderHardwareAddr)
		require.Equal(t, secondMAC, frames[3].TargetHardwareAddr)
	})
}

func TestAnnounceJitter(t *testing.T) {
	s := Schedule{Interval: 10 * time.Second, Jitter: time.Second}
	var early, late int
	for range 1000 {
		p := s.pause(len(firstPauses))
		require.GreaterOrEqual(t, p, 9*time.Second)
		require.LessOrEqual(t, p, 11*time.Second)
		switch {
		case p < 9500*time.Millisecond:
			early++
		case p > 10500*time.Millisecond:
			late++
		}
	}
	require.InDelta(t, 250, early, 100)
	require.InDelta(t, 250, late, 100)
}

// The first frames of all addresses are sent before the second of any, and later
// announcements spread out.
func TestAnnounceMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 1000
		sock := newFakeSocket()
		w := New(sock, ourMAC, IPv4, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		ended := make(chan error, many+1)
		for i := range many {
			addr := netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)})
			go func() {
				ended <- w.Announce(ctx, Announcement{Addr: addr, Schedule: fixed(10*time.Second, time.Second)}, nil)
			}()
		}
		synctest.Wait()
		start := time.Now()
		go func() { ended <- w.Run(ctx) }()
		for range many + 1 {
			require.NoError(t, <-ended)
		}

		frames := sock.frames()
		first := map[netip.Addr]bool{}
		for _, s := range frames[:many] {
			require.Equal(t, arp.OperationRequest, s.Operation)
			first[s.SenderIP] = true
		}
		require.Len(t, first, many, "a second frame was sent before a first")
		require.Less(t, frames[many-1].at.Sub(start), 200*time.Millisecond)

		periodic := map[netip.Addr]int{}
		perSecond := map[int]int{}
		for _, s := range frames[5*2*many:] {
			periodic[s.SenderIP]++
			perSecond[int(s.at.Sub(start).Seconds())]++
		}
		require.Len(t, periodic, many, "an address is not announced")
		for second, n := range perSecond {
			require.Less(t, n, 1300, "too many at once in second %d", second)
		}
	})
}

func TestAnnounceOnlyWhileAllowed(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		var allowed atomic.Bool
		allowed.Store(true)
		ended := make(chan error, 1)
		again := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			ended <- w.Announce(ctx, Announcement{Addr: vip, Schedule: fixed(time.Second, 0), MayAnnounce: allowed.Load}, again)
		}()
		synctest.Wait()
		require.Len(t, sock.frames(), 2)
		allowed.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, sock.frames(), 2)
		allowed.Store(true)
		again <- struct{}{}
		synctest.Wait()
		require.Len(t, sock.frames(), 4)
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestAnnounceWhileSendingFails(t *testing.T) {
	var log logBuffer
	o := Options{Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
	inBubble(t, o, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		sock.failWith(unix.ENOBUFS)
		time.AfterFunc(2*time.Second, func() { sock.failWith(nil) })
		require.NoError(t, w.Announce(ctx, Announcement{Addr: vip, Schedule: fixed(10*time.Second, 0)}, nil))
		require.Equal(t, ms(2200, 4400), sock.offsets(arp.OperationRequest, start))
		require.Equal(t, 1, log.count("sending failed, trying again"))
		require.Equal(t, 1, log.count("sending works again"))
	})
}

func TestAnnounceCount(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		require.NoError(t, w.Announce(t.Context(), Announcement{Addr: vip, Schedule: fixed(10*time.Second, 0), Count: 4}, nil))
		require.Equal(t, ms(0, 200, 1100, 2200), sock.offsets(arp.OperationRequest, start))
		require.Equal(t, 2200*time.Millisecond, time.Since(start))

		sock.failWith(unix.ENETDOWN)
		err := w.Announce(t.Context(), Announcement{Addr: vip, Schedule: fixed(10*time.Second, 0), Count: 4}, nil)
		require.ErrorIs(t, err, ErrNotSent)
	})
}

// TestAnnounceOften has no pause longer than the interval.
func TestAnnounceOften(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		start := time.Now()
		require.NoError(t, w.Announce(t.Context(), Announcement{Addr: vip, Schedule: fixed(500*time.Millisecond, 0), Count: 5}, nil))
		require.Equal(t, ms(0, 200, 700, 1200, 1700), sock.offsets(arp.OperationRequest, start))
	})
}

func TestAnnounceFormAndTarget(t *testing.T) {
	for form, want := range map[Form][]arp.Operation{
		RequestAndReply: {arp.OperationRequest, arp.OperationReply},
		RequestOnly:     {arp.OperationRequest},
		ReplyOnly:       {arp.OperationReply},
	} {
		inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
			a := Announcement{Addr: vip, Schedule: fixed(time.Second, 0), Count: 1, Form: form, To: peerMAC}
			require.NoError(t, w.Announce(t.Context(), a, nil))
			var got []arp.Operation
			for _, f := range sock.frames() {
				got = append(got, f.Operation)
				require.Equal(t, peerMAC, f.to)
			}
			require.Equal(t, want, got)
		})
	}
}

func TestAnnounceInvalid(t *testing.T) {
	w := New(newFakeSocket(), ourMAC, IPv4, Options{})
	for _, addr := range []netip.Addr{{}, netip.MustParseAddr("fd00::64")} {
		err := w.Announce(t.Context(), Announcement{Addr: addr, Schedule: fixed(time.Second, 0)}, nil)
		require.ErrorIs(t, err, ErrUnsupportedFamily)
	}
	for _, s := range []Schedule{
		{},
		{Interval: -1},
		{Interval: time.Second, Jitter: -1},
		{Interval: time.Second, Jitter: 2 * time.Second},
	} {
		t.Run(fmt.Sprint(s.Interval, s.Jitter), func(t *testing.T) {
			a := Announcement{Addr: vip, Schedule: fixed(s.Interval, s.Jitter)}
			require.ErrorContains(t, w.Announce(t.Context(), a, nil), "impossible interval")
		})
	}
}

func TestAnnounceEndsWithTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sock := newFakeSocket()
		w := New(sock, ourMAC, IPv4, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		a := Announcement{Addr: vip, Schedule: fixed(time.Second, 0)}

		early, stop := context.WithCancel(t.Context())
		go func() { ended <- w.Announce(early, a, nil) }()
		time.Sleep(time.Hour)
		stop()
		require.NoError(t, <-ended)
		require.Empty(t, sock.frames(), "no frame is sent before Run")

		go func() { ended <- w.Announce(t.Context(), a, nil) }()
		ran := make(chan error)
		go func() { ran <- w.Run(ctx) }()
		time.Sleep(time.Second)
		cancel()
		require.NoError(t, <-ran)
		require.ErrorIs(t, <-ended, ErrClosed)
		require.ErrorIs(t, w.Announce(t.Context(), a, nil), ErrClosed)
		require.ErrorIs(t, w.Run(t.Context()), ErrClosed)
	})
}
