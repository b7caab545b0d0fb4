package announcer

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	checkInterval = 25 * time.Millisecond
	checkMisses   = 8
)

func checkConfig() HostCheckConfig {
	return HostCheckConfig{
		Host: peerHost, Source: source, Interval: checkInterval, Misses: checkMisses,
		Canary:    func() Canary { return Canary{Addr: vip, Source: source} },
		Witnesses: func() Witnesses { return Witnesses{Gateway: gatewayHost} },
	}
}

// states records what a check has told, and when. It is safe for concurrent use.
type states struct {
	mu    sync.Mutex // guards all following fields
	list  []HostState
	times []time.Time
}

func (s *states) add(h HostState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.times = append(s.list, h), append(s.times, time.Now())
}

func (s *states) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.times = nil, nil
}

// all returns what was told until now.
func (s *states) all() []HostState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// at returns when it was told.
func (s *states) at() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.times)
}

// check runs a check until the test ends.
func (s *scene) check(t *testing.T, c HostCheckConfig) (told *states, stop func()) {
	t.Helper()
	told = &states{}
	s.peer.delay = 50 * time.Microsecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.wire.CheckHost(ctx, c, told.add)
	}()
	return told, func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// intervals waits for n intervals and a half.
func intervals(n int) {
	time.Sleep(time.Duration(n)*checkInterval + checkInterval/5)
	synctest.Wait()
}

func TestCheckHost(t *testing.T) {
	with := func(change func(c *HostCheckConfig)) HostCheckConfig {
		c := checkConfig()
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		config HostCheckConfig
		after  func(s *scene) // 10 intervals
		dead   bool           // within 20 more
	}{
		"answers":            {checkConfig(), func(*scene) {}, false},
		"dies":               {checkConfig(), func(s *scene) { s.peer.die(true) }, true},
		"answers for canary": {checkConfig(), func(s *scene) { s.peer.set(peerAddr, false); s.peer.set(vip, true) }, false},
		"other has canary": {checkConfig(), func(s *scene) {
			s.peer.die(true)
			s.third.set(vip, true)
			time.AfterFunc(10*checkInterval, func() { s.sock.announce(vip, thirdMAC) })
		}, true},
		"no canary": {with(func(c *HostCheckConfig) { c.Canary = nil }), func(s *scene) { s.peer.die(true) }, true},
		"no canary now": {with(func(c *HostCheckConfig) { c.Canary = func() Canary { return Canary{} } }),
			func(s *scene) { s.peer.die(true) }, true},
		"the witness too": {checkConfig(), func(s *scene) { s.peer.die(true); s.gateway.die(true) }, false},
		"no witness": {with(func(c *HostCheckConfig) { c.Witnesses = func() Witnesses { return Witnesses{} } }),
			func(s *scene) { s.peer.die(true) }, false},
		"it is the witness": {with(func(c *HostCheckConfig) {
			c.Witnesses = func() Witnesses { return Witnesses{Gateway: peerHost, Others: []Host{{Addr: peerAddr}}} }
		}), func(s *scene) { s.peer.die(true) }, false},
		"another host is the witness": {with(func(c *HostCheckConfig) {
			c.Witnesses = func() Witnesses { return Witnesses{Others: []Host{{Addr: otherVIP}, thirdHost}} }
		}), func(s *scene) { s.peer.die(true) }, true},
		"backlog":      {checkConfig(), func(s *scene) { s.peer.die(true); s.sock.setBacklogged(true) }, false},
		"nothing sent": {checkConfig(), func(s *scene) { s.sock.failWith(unix.ENOBUFS) }, false},
		"seven misses": {checkConfig(), func(s *scene) {
			s.peer.die(true)
			time.AfterFunc(checkInterval*13/2, func() { s.peer.die(false) })
		}, false},
		"claims the canary unasked": {checkConfig(), func(s *scene) {
			s.peer.die(true)
			for i := range 20 {
				time.AfterFunc(time.Duration(i)*4*checkInterval, func() { s.sock.announce(vip, peerMAC) })
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
				s := arrange(t, w, sock)
				told, stop := s.check(t, tc.config)
				defer stop()
				intervals(10)
				require.Len(t, told.all(), 1)
				require.Equal(t, checkMisses, told.all()[0].Heard)
				tc.after(s)
				intervals(20)
				if !tc.dead {
					require.Len(t, told.all(), 1)
					return
				}
				require.Len(t, told.all(), 2)
				require.True(t, told.all()[1].Dead)
				require.GreaterOrEqual(t, told.all()[1].Heard, 10)
				silent := told.at()[1].Sub(told.all()[1].Since)
				require.GreaterOrEqual(t, silent, checkMisses*checkInterval)
				require.Less(t, silent, (checkMisses+4)*checkInterval)
			})
		})
	}
}

// The misses in a row can be read at any moment.
func TestCheckHostTellsMisses(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		c := checkConfig()
		c.Missed = new(atomic.Int64)
		_, stop := s.check(t, c)
		defer stop()
		intervals(10)
		require.Zero(t, c.Missed.Load())
		s.peer.die(true)
		intervals(5)
		require.GreaterOrEqual(t, c.Missed.Load(), int64(3))
		require.LessOrEqual(t, c.Missed.Load(), int64(5))
		intervals(20)
		require.Greater(t, c.Missed.Load(), int64(checkMisses))
		s.peer.die(false)
		intervals(5)
		require.Zero(t, c.Missed.Load())
	})
}

// A dead host that is heard again is told at once, and may die again.
func TestCheckHostHeardAgain(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		told, stop := s.check(t, checkConfig())
		defer stop()
		intervals(10)
		for range 3 {
			told.forget()
			s.peer.die(true)
			intervals(20)
			again := time.Now()
			sock.announce(vip, peerMAC) // in the middle of an interval
			synctest.Wait()
			require.Len(t, told.all(), 2)
			require.False(t, told.all()[1].Dead)
			require.Equal(t, again, told.at()[1])
			require.Equal(t, again, told.all()[1].Since)
			require.GreaterOrEqual(t, told.all()[1].Heard, told.all()[0].Heard)
			s.peer.die(false)
			intervals(3)
		}
	})
}

// A host cannot be dead before it has been heard often enough.
func TestCheckHostNeverHeard(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		s.peer.die(true)
		told, stop := s.check(t, checkConfig())
		defer stop()
		intervals(100)
		s.peer.die(false)
		intervals(checkMisses - 2)
		s.peer.die(true)
		intervals(100)
		require.Empty(t, told.all())
		s.peer.die(false)
		intervals(3)
		require.Len(t, told.all(), 1)
		s.peer.die(true)
		intervals(20)
		require.Len(t, told.all(), 2)
		require.True(t, told.all()[1].Dead)
	})
}

func TestCheckHostFrames(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		_, stop := s.check(t, checkConfig())
		defer stop()
		intervals(100)
		require.Len(t, sock.frames(), 101, "one request per interval")
		for _, f := range sock.frames() {
			require.Equal(t, peerMAC, f.to)
			require.Equal(t, peerAddr, f.TargetIP)
			require.Equal(t, source, f.SenderIP)
		}

		s.peer.die(true)
		sock.forget()
		intervals(20)
		require.Len(t, sock.sentTo(peerMAC, peerAddr), 20)
		require.Len(t, sock.sentTo(peerMAC, vip), 18, "from the first miss on")
		require.Len(t, append(sock.sentTo(broadcast, gatewayAddr), sock.sentTo(gatewayMAC, gatewayAddr)...), 19)
	})
}

// A hundred checks stay within the rate.
func TestCheckHostMany(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		for i, addr := range manyVIPs(100) {
			mac := net.HardwareAddr{0x02, 1, 0, 0, 0, byte(i)}
			c := checkConfig()
			c.Host = Host{Addr: addr, MACs: []net.HardwareAddr{mac}}
			_, stop := s.check(t, c)
			defer stop()
		}
		time.Sleep(time.Second)
		for range 3 {
			sock.forget()
			time.Sleep(time.Second)
			require.LessOrEqual(t, len(sock.frames()), checkRate)
			require.Greater(t, len(sock.frames()), checkRate/2)
		}
	})
}

// A frame that is just being read at the end of an interval makes none void.
func TestCheckHostWhileFramesAreRead(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		told, stop := s.check(t, checkConfig())
		defer stop()
		intervals(20)
		s.peer.die(true)
		var asked time.Time
		sock.setIdle(func() bool { // false at the end of an interval, true a moment later
			first := time.Since(asked) > checkInterval/2
			asked = time.Now()
			return !first
		})
		intervals(checkMisses * 5 / 4)
		require.True(t, told.all()[len(told.all())-1].Dead)
	})
}

// A late timer makes an interval void.
func TestCheckHostLateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hostCheck{}
		for late, void := range map[time.Duration]bool{0: false, checkInterval/4 - 1: false, checkInterval / 4: true, time.Hour: true} {
			iv := &interval{began: time.Now().Add(-checkInterval - late), length: checkInterval}
			require.NoError(t, h.await(t.Context(), iv, checkInterval))
			require.Equal(t, void, iv.void, late)
		}
	})
}

func TestCheckHostEnds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, w *Wire, sock *fakeSocket) {
		s := arrange(t, w, sock)
		none := func(HostState) {}
		c := checkConfig()
		c.Host.Addr = netip.MustParseAddr("fd00::64")
		require.ErrorIs(t, w.CheckHost(t.Context(), c, none), ErrUnsupportedFamily)
		for name, change := range map[string]func(c *HostCheckConfig){
			"no MAC":       func(c *HostCheckConfig) { c.Host.MACs = nil },
			"group MAC":    func(c *HostCheckConfig) { c.Host.MACs = []net.HardwareAddr{broadcast} },
			"no interval":  func(c *HostCheckConfig) { c.Interval = 0 },
			"no misses":    func(c *HostCheckConfig) { c.Misses = 0 },
			"no witnesses": func(c *HostCheckConfig) { c.Witnesses = nil },
		} {
			c := checkConfig()
			change(&c)
			require.Error(t, w.CheckHost(t.Context(), c, none), name)
		}
		s.peer.die(true)
		_, stop := s.check(t, checkConfig())
		intervals(20)
		stop()
		require.Zero(t, w.checks.Load())
		require.Empty(t, w.listeners.byAddr)
		sent := len(sock.frames())
		intervals(20)
		require.Len(t, sock.frames(), sent, "no frame is sent later")

		time.AfterFunc(time.Second, func() { w.pacer.close() })
		require.ErrorIs(t, w.CheckHost(t.Context(), checkConfig(), none), ErrClosed)
	})
}
