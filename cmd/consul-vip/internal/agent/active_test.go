package agent

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

func TestLifetimeEndsBeforeTheHoldDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.deadline = 7500 * time.Millisecond
		err := f.serve(released, func(context.CancelCauseFunc) { time.Sleep(10 * time.Second) })
		require.ErrorIs(t, err, lease.ErrSessionLost)
		s := time.Second
		assert.Equal(t, []time.Duration{5 * s, 5 * s, 5 * s, 4 * s, 3 * s, 2 * s, 1 * s}, f.lifetimes)
	})
}

func TestLockIsVerifiedAfterAPause(t *testing.T) {
	tests := map[string]struct {
		verifyErr error
		want      error
		refreshed bool
	}{
		"still held":    {nil, nil, true},
		"lost":          {lease.ErrLockLost, lease.ErrLockLost, false},
		"Consul silent": {errTest, nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.verifyErr = test.verifyErr
				err := f.serve(released, func(stop context.CancelCauseFunc) {
					f.asleep.Store(int64(4 * time.Second))
					f.missing = true
					f.vip.missing.Set()
					synctest.Wait()
					assert.Equal(t, test.refreshed, len(f.lifetimes) == 2)
					stop(errTest)
				})
				if test.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, test.want)
				}
				assert.Contains(t, f.recorded(), "verify")
			})
		})
	}
}

// The process is frozen after Consul has answered. When it runs again, the answer is
// old: the lock was lost meanwhile.
func TestLockIsVerifiedAgainAfterAPauseInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.onVerify = func() {
			f.asleep.Add(int64(4 * time.Second))
			f.mu.Lock()
			defer f.mu.Unlock()
			f.verifyErr, f.onVerify = lease.ErrLockLost, nil
		}
		err := f.serve(released, func(context.CancelCauseFunc) {
			f.asleep.Add(int64(4 * time.Second))
			f.missing = true
			f.vip.missing.Set()
		})
		require.ErrorIs(t, err, lease.ErrLockLost)
		assert.Len(t, f.lifetimes, 1, "it was not bound again")
		assert.Equal(t, []string{"bind", "serving", "announce", "verify", "verify", "stop announcing", "unbind"}, f.recorded())
	})
}

func TestRemovedAddressIsBoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		require.NoError(t, f.serve(released, func(stop context.CancelCauseFunc) {
			began := time.Now()
			f.missing = true
			f.vip.missing.Set()
			synctest.Wait()
			assert.Zero(t, time.Since(began))
			assert.Equal(t, []string{"bind", "serving", "announce", "announce again"}, f.recorded())
			f.vip.missing.Set() // after our own Unbind or a Resync: the address is there
			synctest.Wait()
			assert.Equal(t, []string{"bind", "serving", "announce", "announce again"}, f.recorded())
			stop(errTest)
		}))
	})
}

func TestRepeatedlyRemovedAddressIsLost(t *testing.T) {
	for pause, want := range map[time.Duration]error{10 * time.Second: ErrAddressLost, 20 * time.Second: nil} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			err := f.serve(released, func(stop context.CancelCauseFunc) {
				for range rebindLimit {
					time.Sleep(pause)
					f.mu.Lock()
					f.missing = true
					f.mu.Unlock()
					f.vip.missing.Set()
					synctest.Wait()
				}
				stop(errTest)
			})
			require.ErrorIs(t, err, want)
		})
	}
}

func TestAddressTakenByAnotherProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.vip.taken.Set() // from before the address was bound
		err := f.serve(released, func(context.CancelCauseFunc) {
			f.vip.taken.Set() // the other program has removed it since
			synctest.Wait()
			f.mu.Lock()
			f.takenErr = netif.ErrForeign
			f.mu.Unlock()
			f.vip.taken.Set()
		})
		require.ErrorIs(t, err, netif.ErrForeign)
		assert.Equal(t, []string{"bind", "serving", "announce", "stop announcing", "unbind"}, f.recorded())
	})
}

func TestNoAnnouncementAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.verifyErr = errTest
		require.NoError(t, f.serve(released, func(stop context.CancelCauseFunc) {
			assert.True(t, f.mayAnnounce())
			f.asleep.Store(int64(4 * time.Second))
			assert.False(t, f.mayAnnounce(), "before the next refresh")
			time.Sleep(3 * time.Second)
			assert.False(t, f.mayAnnounce(), "while Consul has not confirmed the lock")
			f.mu.Lock()
			f.verifyErr = nil
			f.mu.Unlock()
			time.Sleep(refreshInterval)
			synctest.Wait()
			assert.True(t, f.mayAnnounce())
			stop(errTest)
		}))
	})
}

func TestCarrier(t *testing.T) {
	down := netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	up := down
	up.Up = true
	t.Run("a short loss", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			require.NoError(t, f.serve(released, func(stop context.CancelCauseFunc) {
				f.vip.link.update(down)
				time.Sleep(carrierDebounce - time.Millisecond)
				f.vip.link.update(up)
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Equal(t, []string{"bind", "serving", "announce", "announce again"}, f.recorded())
				stop(errTest)
			}))
		})
	})
	t.Run("a longer loss", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			err := f.serve(released, func(context.CancelCauseFunc) {
				f.vip.link.update(down)
				time.Sleep(carrierDebounce)
			})
			require.ErrorIs(t, err, errCarrier)
		})
	})
}

// A change of the configuration neither unbinds an active address nor restarts its
// announcements.
func TestChangesWhileActive(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, f *fakeVIP){
		"dead_man": func(t *testing.T, f *fakeVIP) {
			time.Sleep(refreshInterval - 1)
			f.reconfigure(func(c *config.VIP) { c.DeadMan = 9 * time.Second })
			time.Sleep(refreshInterval)
			f.reconfigure(func(c *config.VIP) { c.DeadMan = 2 * time.Second })
			time.Sleep(refreshInterval)
			synctest.Wait()
			assert.Equal(t, []time.Duration{5 * time.Second, 9 * time.Second, 2 * time.Second}, f.lifetimes,
				"the next refresh uses the new one")
		},
		"announce": func(t *testing.T, f *fakeVIP) {
			f.reconfigure(func(c *config.VIP) { c.Announce = config.Announce{Interval: 7 * time.Second, Jitter: 1} })
			synctest.Wait()
			assert.Equal(t, announcer.Schedule{Interval: 7 * time.Second, Jitter: 1}, f.schedule())
		},
		"on_conflict": func(t *testing.T, f *fakeVIP) {
			f.reconfigure(func(c *config.VIP) { c.OnConflict = config.ConflictLog })
			f.claims <- announcer.Claim{Addr: f.vip.cfg().Addr(), MAC: strangerMAC, Received: time.Now()}
			synctest.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				require.NoError(t, f.serve(released, func(stop context.CancelCauseFunc) {
					test(t, f)
					assert.Equal(t, []string{"bind", "serving", "announce"}, f.recorded())
					stop(errTest)
				}))
			})
		})
	}
}
