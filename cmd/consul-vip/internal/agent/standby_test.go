package agent

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

func TestNoContentionWithoutACarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		locks := &scriptedLocks{}
		f.vip.locks = locks
		f.vip.link.update(netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		stop, _ := f.run()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Zero(t, locks.holds)
		f.vip.link.update(netif.LinkChanged{Index: 7, Up: true, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		synctest.Wait()
		assert.Equal(t, 1, locks.holds)
		require.NoError(t, stop())
	})
}

func TestLockNamesTheOwner(t *testing.T) {
	f := newFakeVIP(func(c *config.VIP) { c.Priority = 7 })
	f.vip.owner = Owner{AllocID: "c0ffee", Job: "consul-vip"}
	lock := f.vip.lock()
	assert.Equal(t, "10.77.0.100", lock.Name)
	assert.Equal(t, 7, lock.Priority)
	assert.Equal(t, Owner{
		Interface: "eth0", MAC: "02:00:00:00:00:01", AllocID: "c0ffee", Job: "consul-vip",
	}, DecodeOwner(lock.Owner))
}

// A change of the configuration reaches the lock in any state of the VIP.
func TestChangeIsNotLost(t *testing.T) {
	priority := func(n int) func(*config.VIP) { return func(c *config.VIP) { c.Priority = n } }
	t.Run("while Hold is called", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			locks := &lateLocks{late: 5 * time.Millisecond}
			f.vip.locks = locks
			stop, _ := f.run()
			f.reconfigure(priority(7))
			assert.Equal(t, 7, locks.lock.Priority)
			f.reconfigure(func(c *config.VIP) { c.DeadMan = time.Minute })
			assert.EqualValues(t, 1, locks.updates.Load(), "dead_man does not concern the lock")
			require.NoError(t, stop())
		})
	})
	t.Run("while the link is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			locks := &lateLocks{}
			f.vip.locks = locks
			link := netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
			f.vip.link.update(link)
			stop, _ := f.run()
			f.reconfigure(priority(7))
			link.Up = true
			f.vip.link.update(link)
			synctest.Wait()
			assert.Equal(t, 7, locks.lock.Priority)
			require.NoError(t, stop())
		})
	})
}

// lateLocks know a lock only some time after Hold is called.
type lateLocks struct {
	lose chan struct{} // if not nil, the lock is lost when it is closed
	late time.Duration

	known   atomic.Bool
	updates atomic.Int64
	lock    lease.Lock
}

func (l *lateLocks) Hold(ctx context.Context, lock lease.Lock, _ func(context.Context, *lease.Held) error) error {
	time.Sleep(l.late)
	l.lock = lock
	l.known.Store(true)
	defer l.known.Store(false)
	select {
	case <-l.lose:
		l.lose = nil
		return lease.ErrLockLost
	case <-ctx.Done():
		return nil
	}
}

func (l *lateLocks) Update(lock lease.Lock) bool {
	if !l.known.Load() {
		return false
	}
	l.updates.Add(1)
	l.lock = lock
	return true
}
