package agent

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/netif"
)

var ownMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}

func TestAddressTakenByAnotherProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.vip.taken.Set() // from before the address was bound
		o := f.serve(t, free, func(stopper) {
			f.vip.taken.Set() // the other program has removed it since
			synctest.Wait()
			f.mu.Lock()
			f.takenErr = netif.ErrForeign
			f.mu.Unlock()
			f.vip.taken.Set()
		})
		assert.Equal(t, foreign, o.how)
		assert.True(t, o.left().Unclean)
		assert.Equal(t, bindsAndReleases, f.recorded())
		require.ErrorIs(t, f.contender.last().Ineligible, netif.ErrForeign)
		time.Sleep(shortestBackOff)
		synctest.Wait()
		require.NoError(t, f.contender.last().Ineligible, "unbinding has removed it")
	})
}

func TestAnnounceOnlyWhileCertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.serve(t, free, func(stop stopper) {
			assert.True(t, f.mayAnnounce())
			f.pause(2 * time.Second)
			assert.False(t, f.mayAnnounce(), "before the next refresh")
			time.Sleep(time.Second)
			assert.False(t, f.mayAnnounce(), "while Consul has not confirmed the lock")
			f.confirm()
			synctest.Wait()
			assert.True(t, f.mayAnnounce())
			f.deadline.Store(int64(f.Now()))
			assert.False(t, f.mayAnnounce(), "at the hold deadline")
			stop(stopped)
			synctest.Wait()
			assert.False(t, f.mayAnnounce())
		})
	})
}

func TestCarrier(t *testing.T) {
	down := netif.LinkChanged{Index: 7, HardwareAddr: ownMAC}
	up := down
	up.Up = true
	t.Run("a short loss", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			f.serve(t, free, func(stop stopper) {
				f.vip.link.update(down)
				time.Sleep(carrierDebounce - time.Millisecond)
				f.vip.link.debounce()
				f.vip.link.update(up)
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Equal(t, []string{"bind", "bound", "announce", "announce again"}, f.recorded())
				stop(stopped)
			})
		})
	})
	t.Run("a longer loss", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			o := f.serve(t, free, func(stopper) {
				f.vip.link.update(down)
				time.Sleep(carrierDebounce)
				f.vip.link.debounce()
			})
			assert.Equal(t, linkDown, o.how)
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
			assert.Equal(t, []time.Duration{5 * time.Second, 9 * time.Second, 2 * time.Second}, f.refreshes(),
				"the next refresh uses the new one")
		},
		"announce": func(t *testing.T, f *fakeVIP) {
			f.reconfigure(func(c *config.VIP) { c.Announce = config.Announce{Interval: 7 * time.Second, Jitter: 1} })
			synctest.Wait()
			assert.Equal(t, announcer.Schedule{Interval: 7 * time.Second, Jitter: 1}, f.schedule())
		},
		"on_conflict": func(t *testing.T, f *fakeVIP) {
			f.reconfigure(func(c *config.VIP) { c.OnConflict = config.ConflictLog })
			f.claim(strangerMAC)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.serve(t, free, func(stop stopper) {
					test(t, f)
					assert.Equal(t, []string{"bind", "bound", "announce"}, f.recorded())
					stop(stopped)
				})
			})
		})
	}
}
