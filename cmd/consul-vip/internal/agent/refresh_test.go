package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease"
)

func TestLifetimeEndsBeforeTheHoldDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.deadline.Store(int64(7500 * time.Millisecond))
		f.serve(t, free, func(stop stopper) {
			time.Sleep(7500 * time.Millisecond)
			synctest.Wait()
			assert.False(t, f.mayAnnounce())
			stop(lease.End{Kind: lease.SessionLost, Reason: lease.ErrSessionLost})
		})
		s := time.Second
		assert.Equal(t, []time.Duration{5 * s, 5 * s, 5 * s, 4 * s, 3 * s, 2 * s, 1 * s}, f.refreshes())
	})
}

// After a pause an address that is still there is extended until the hold deadline,
// as long as Consul does not answer.
func TestExtendedWhileNotCertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.silent.Store(true)
		f.serve(t, free, func(stop stopper) {
			time.Sleep(time.Millisecond)
			f.pause(2 * time.Second)
			time.Sleep(20 * time.Second)
			synctest.Wait()
			assert.Len(t, f.refreshes(), 21)
			assert.Equal(t, []string{"bind", "bound", "announce"}, f.recorded())
			stop(stopped)
		})
	})
}

// While the lock is not certain nothing is added to the kernel.
func TestNothingIsAddedWhileNotCertain(t *testing.T) {
	for name, test := range map[string]func(f *fakeVIP){
		"the lifetime has ended in a pause": func(f *fakeVIP) {
			f.pause(6 * time.Second)
			f.missing = true
		},
		"another program has removed it": func(f *fakeVIP) {
			f.pause(2 * time.Second)
			f.missing = true
		},
		"the lifetime ends during the act": func(f *fakeVIP) {
			f.pause(2 * time.Second)
			f.onRefresh = func() {
				f.asleep.Add(int64(4 * time.Second))
				f.onRefresh = nil
			}
		},
		"paused during the act, which adds it": func(f *fakeVIP) {
			f.missing = true
			f.onRefresh = func() {
				f.pause(2 * time.Second)
				f.onRefresh = nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.serve(t, free, func(stop stopper) {
					time.Sleep(time.Millisecond)
					f.mu.Lock()
					test(f)
					f.mu.Unlock()
					time.Sleep(3 * time.Second)
					synctest.Wait()
					assert.Equal(t, []string{"bind", "bound", "announce", "unbind"}, f.recorded())
					assert.False(t, f.mayAnnounce())
					f.confirm()
					synctest.Wait()
					assert.Equal(t, []string{"bind", "bound", "announce", "unbind", "bind", "announce again"}, f.recorded(),
						"as soon as the lock is certain")
					assert.True(t, f.mayAnnounce())
					assert.Empty(t, logged(f.log.String(), "another program removed the address, bound it again", "times"))
					stop(stopped)
				})
			})
		})
	}
}

// A kernel that answers after the address's lifetime has ended ends nothing, and is no
// other program.
func TestSlowKernelWhileActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.serve(t, free, func(stop stopper) {
			f.mu.Lock()
			f.onRefresh = func() { time.Sleep(7 * time.Second) }
			f.mu.Unlock()
			time.Sleep(time.Minute)
			synctest.Wait()
			assert.Greater(t, f.lapses, rebindLimit)
			assert.NotContains(t, f.recorded(), "unbind")
			assert.NotContains(t, f.log.String(), "another program")
			stop(stopped)
			time.Sleep(7 * time.Second)
		})
	})
}

// The wait for a turn does not keep the VIP from unbinding the address.
func TestUnboundWhileOthersRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.serve(t, free, func(stop stopper) {
			other := f.vip.turns.refresh()
			defer other.done()
			time.Sleep(3 * time.Second)
			assert.Len(t, f.refreshes(), 1)
			stop(stopped)
			synctest.Wait()
			assert.Equal(t, bindsAndReleases, f.recorded())
		})
		next := f.vip.turns.refresh()
		assert.True(t, next.hasCome(), "the VIP has left the queue")
	})
}

func TestRemovedAddressIsBoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.serve(t, free, func(stop stopper) {
			began := time.Now()
			f.remove()
			synctest.Wait()
			assert.Zero(t, time.Since(began))
			assert.Equal(t, []string{"bind", "bound", "announce", "announce again"}, f.recorded())
			f.vip.missing.Set() // after our own Unbind or a Resync: the address is there
			synctest.Wait()
			assert.Equal(t, []string{"bind", "bound", "announce", "announce again"}, f.recorded())
			stop(stopped)
		})
	})
}

func TestRepeatedlyRemovedAddressIsLost(t *testing.T) {
	for pause, lost := range map[time.Duration]bool{10 * time.Second: true, 20 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			o := f.serve(t, free, func(stop stopper) {
				for range rebindLimit {
					time.Sleep(pause)
					f.remove()
					synctest.Wait()
				}
				if !lost {
					stop(stopped)
				}
			})
			if lost {
				assert.Equal(t, addressLost, o.how)
				require.ErrorIs(t, o.err, ErrAddressLost)
			}
		})
	}
}
