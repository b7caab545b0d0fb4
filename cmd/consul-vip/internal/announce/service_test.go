package announce

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/arp"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/netif"
)

func TestLife(t *testing.T) {
	serving(t, Options{Watch: WatchFail}, nil, func(t *testing.T, s *scene) {
		require.Empty(t, s.asked())
		require.True(t, s.probes(), "it asks first")
		s.up(t)
		require.Equal(t, []string{"bind"}, s.asked())
		require.Empty(t, s.since(func() { time.Sleep(time.Hour) }))
		require.InDelta(t, 2*(5+360), len(s.announcements(time.Time{})), 4)
		before := time.Now()
		require.Equal(t, []string{"unbind"}, s.since(func() { s.stop(errStopped) }))
		require.NoError(t, s.end(t))
		require.Empty(t, s.announcements(before), "it is not announced in the end")
	})
}

func TestAnotherStationHasTheAddress(t *testing.T) {
	probing := func(watch Watch, test func(t *testing.T, s *scene)) {
		t.Run(string(watch), func(t *testing.T) {
			serving(t, Options{Watch: watch}, nil, func(t *testing.T, s *scene) {
				for range 10 { // a broadcast alone proves nothing
					select {
					case s.in <- claimOf(t, highMAC):
					case <-s.closed:
					}
					time.Sleep(3 * time.Millisecond)
				}
				test(t, s)
			})
		})
	}
	probing(WatchFail, func(t *testing.T, s *scene) {
		require.ErrorIs(t, s.end(t), ErrConflict)
		require.ErrorContains(t, s.end(t), highMAC.String())
		require.Empty(t, s.asked())
		require.Empty(t, s.announcements(time.Time{}))
	})
	probing(WatchQuit, func(t *testing.T, s *scene) {
		require.NoError(t, s.end(t))
		require.Empty(t, s.asked())
	})
	probing(WatchLog, func(t *testing.T, s *scene) {
		s.up(t)
		s.runs(t)
	})
	probing(WatchNo, func(t *testing.T, s *scene) {
		require.Equal(t, []string{"bind"}, s.asked(), "it does not look")
		s.runs(t)
	})
}

// TestAClaim has another station claim the address while it is announced.
func TestAClaim(t *testing.T) {
	lower := net.HardwareAddr{2, 0, 0, 0, 0, 0}
	for name, test := range map[string]struct {
		watch Watch
		mac   net.HardwareAddr
		err   error
		ends  bool
	}{
		"a lower MAC":             {WatchFail, lower, ErrConflict, true},
		"a lower MAC, quit":       {WatchQuit, lower, nil, true},
		"a lower MAC, log":        {WatchLog, lower, nil, false},
		"a lower MAC, not looked": {WatchNo, lower, nil, false},
		"a higher MAC":            {WatchFail, highMAC, nil, false},
		"this host":               {WatchFail, lowMAC, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			serving(t, Options{Watch: test.watch}, nil, func(t *testing.T, s *scene) {
				s.up(t)
				calls := s.since(func() { s.claim(t, test.mac) })
				if !test.ends {
					s.runs(t)
					require.Empty(t, calls)
					return
				}
				require.Equal(t, []string{"unbind"}, calls)
				require.ErrorIs(t, s.end(t), test.err)
			})
		})
	}
}

// TestAHigherMACIsAnswered has the rival hear at once that it has to give up. One that
// does not give up wins in the end: two owners are worse.
func TestAHigherMACIsAnswered(t *testing.T) {
	serving(t, Options{Watch: WatchFail}, nil, func(t *testing.T, s *scene) {
		s.up(t)
		time.Sleep(time.Minute)
		before := time.Now()
		s.claim(t, highMAC)
		require.NotEmpty(t, s.announcements(before))
		for time.Since(before) < yieldTime-time.Second {
			time.Sleep(500 * time.Millisecond)
			s.claim(t, highMAC)
			s.runs(t)
		}
		time.Sleep(2 * time.Second)
		s.claim(t, highMAC)
		require.ErrorIs(t, s.end(t), ErrConflict)
	})
}

func TestWatchDelay(t *testing.T) {
	lower := net.HardwareAddr{2, 0, 0, 0, 0, 0}
	serving(t, Options{Watch: WatchFail, WatchDelay: time.Minute}, nil, func(t *testing.T, s *scene) {
		s.up(t)
		s.claim(t, lower)
		s.runs(t)
		time.Sleep(time.Minute)
		s.claim(t, lower)
		require.ErrorIs(t, s.end(t), ErrConflict)
	})
	serving(t, Options{Watch: WatchFail, Delay: time.Hour}, nil, func(t *testing.T, s *scene) {
		s.claim(t, lower)
		s.runs(t)
		time.Sleep(time.Hour)
		s.up(t)
	})
	serving(t, Options{Watch: WatchFail, Delay: time.Hour, WatchImmediately: true}, nil, func(t *testing.T, s *scene) {
		time.Sleep(time.Minute)
		s.claim(t, lower)
		require.ErrorIs(t, s.end(t), ErrConflict)
		require.Empty(t, s.asked())
	})
}

func TestAddressRemoved(t *testing.T) {
	serving(t, Options{Watch: WatchFail}, nil, func(t *testing.T, s *scene) {
		s.up(t)
		time.Sleep(time.Minute)
		before := time.Now()
		s.set(false)
		require.Equal(t, []string{"unbind", "bind"}, s.since(func() {
			s.events <- netif.AddressRemoved{Index: 7, Addr: prefix.Addr()}
			time.Sleep(announcer.LoneSilence)
		}))
		require.NotEmpty(t, s.announcements(before))
		require.Empty(t, s.since(func() {
			s.events <- netif.AddressRemoved{Index: 8, Addr: prefix.Addr()}
		}), "on another interface")
	})
}

// TestPausedProcess suspends the process for longer than the address's lifetime: another
// station may have the address. It is not announced before nobody answers for it.
func TestPausedProcess(t *testing.T) {
	serving(t, Options{Watch: WatchFail, Schedule: announcer.Schedule{Interval: 100 * time.Millisecond}}, nil, func(t *testing.T, s *scene) {
		s.up(t)
		time.Sleep(10*time.Second + 10*time.Millisecond)
		s.paused.Store(int64(lifetime))
		before := time.Now()
		require.Equal(t, []string{"unbind"}, s.since(func() {
			for s.bound() {
				time.Sleep(time.Millisecond)
			}
		}))
		require.Empty(t, s.announcements(before))
		require.Equal(t, []string{"bind"}, s.since(func() { time.Sleep(announcer.LoneSilence) }))
		require.NotEmpty(t, s.announcements(before))
	})
}

func TestAddressOfAnotherProgram(t *testing.T) {
	on := func(name string) func(*scene) { return func(s *scene) { s.foreign = name } }
	serving(t, Options{Watch: WatchFail}, on("eth0"), func(t *testing.T, s *scene) {
		s.up(t)
		s.stop(errStopped)
		require.NoError(t, s.end(t))
		require.Empty(t, s.asked(), "it stays as it is")
	})
	serving(t, Options{Watch: WatchFail, RemovePreExisting: true}, on("eth0"), func(t *testing.T, s *scene) {
		s.up(t)
		require.Equal(t, []string{"remove"}, s.since(func() { s.stop(errStopped) }))
	})
	for name, o := range map[string]Options{"eth0": {DieIfExists: true}, "eth1": {}} {
		serving(t, o, on(name), func(t *testing.T, s *scene) {
			time.Sleep(announcer.LoneSilence)
			require.ErrorIs(t, s.end(t), netif.ErrForeign)
			require.Empty(t, s.announcements(time.Time{}))
		})
	}
}

func TestUnmanaged(t *testing.T) {
	serving(t, Options{Watch: WatchFail, Unmanaged: true, Count: 4}, nil, func(t *testing.T, s *scene) {
		began := time.Now()
		s.up(t)
		require.NoError(t, <-s.ended)
		s.ended <- nil
		require.Less(t, time.Since(began), 3*time.Second)
		require.Len(t, s.announcements(time.Time{}), 2*4)
		require.Empty(t, s.asked())
	})
}

func TestFormAndTarget(t *testing.T) {
	o := Options{Watch: WatchNo, Count: 1, Form: announcer.ReplyOnly, Target: highMAC, MAC: net.HardwareAddr{2, 9, 9, 9, 9, 9}}
	serving(t, o, nil, func(t *testing.T, s *scene) {
		require.NoError(t, s.end(t))
		frames := s.announcements(time.Time{})
		require.Len(t, frames, 1)
		require.Equal(t, arp.OperationReply, frames[0].Operation)
		require.Equal(t, highMAC, frames[0].to)
		require.Equal(t, o.MAC, frames[0].SenderHardwareAddr)
	})
}

func TestLinkChanges(t *testing.T) {
	serving(t, Options{Watch: WatchFail}, nil, func(t *testing.T, s *scene) {
		s.up(t)
		time.Sleep(time.Minute)
		change := func(c netif.LinkChanged) []sent {
			before := time.Now()
			c.Index, c.Name = 7, "eth0"
			s.events <- c
			synctest.Wait()
			return s.announcements(before)
		}
		require.Empty(t, change(netif.LinkChanged{Up: true, HardwareAddr: lowMAC}))
		require.Empty(t, change(netif.LinkChanged{Up: false, HardwareAddr: highMAC}))
		frames := change(netif.LinkChanged{Up: true, HardwareAddr: highMAC})
		require.NotEmpty(t, frames, "the link is up again")
		require.Equal(t, highMAC, frames[0].SenderHardwareAddr)
	})
}
