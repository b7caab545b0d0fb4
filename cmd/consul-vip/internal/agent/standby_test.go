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

func TestRunDoesNotContendWithoutCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		locks := &scriptedLocks{}
		f.vip.locks = locks
		f.vip.link.update(netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- f.vip.run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Zero(t, locks.held)
		f.vip.link.update(netif.LinkChanged{Index: 7, Up: true, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		synctest.Wait()
		assert.Equal(t, 1, locks.held)
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestLockSaysWhoContends(t *testing.T) {
	f := newFakeVIP(func(c *config.VIP) { c.Priority = 7 })
	f.vip.owner = lease.Owner{AllocID: "c0ffee", Job: "consul-vip"}
	assert.Equal(t, lease.Lock{Name: "10.77.0.100", Priority: 7, Owner: lease.Owner{
		Interface: "eth0", MAC: "02:00:00:00:00:01", AllocID: "c0ffee", Job: "consul-vip",
	}}, f.vip.lock())
}

// A change reaches the lock whatever the VIP is just about to do.
func TestChangeIsNotLost(t *testing.T) {
	priority := func(n int) func(*config.VIP) { return func(c *config.VIP) { c.Priority = n } }
	t.Run("while the lock is asked for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			locks := &lateLocks{late: 5 * time.Millisecond}
			f.vip.locks = locks
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- f.vip.run(ctx) }()
			synctest.Wait()
			f.reconfigure(priority(7))
			assert.Equal(t, 7, locks.lock.Priority)
			f.reconfigure(func(c *config.VIP) { c.DeadMan = time.Minute })
			assert.EqualValues(t, 1, locks.updates.Load(), "not for what is none of its business")
			cancel()
			require.NoError(t, <-ended)
		})
	})
	t.Run("while the link is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			locks := &lateLocks{}
			f.vip.locks = locks
			link := netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
			f.vip.link.update(link)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- f.vip.run(ctx) }()
			synctest.Wait()
			f.reconfigure(priority(7))
			link.Up = true
			f.vip.link.update(link)
			synctest.Wait()
			assert.Equal(t, 7, locks.lock.Priority)
			cancel()
			require.NoError(t, <-ended)
		})
	})
}

// lateLocks take their time to take up a lock that is asked for.
type lateLocks struct {
	losing chan struct{} // closed when the lock is lost, where it is not nil
	late   time.Duration

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
	case <-l.losing:
		l.losing = nil
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
