package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

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
	for name, prepare := range map[string]func(t *testing.T, f *fakeVIP){
		"before run": func(*testing.T, *fakeVIP) {},
		"standby": func(t *testing.T, f *fakeVIP) {
			ctx, cancel := context.WithCancel(context.Background())
			go func() { _ = f.vip.run(ctx) }()
			synctest.Wait()
			t.Cleanup(cancel)
		},
		"while the link is down": func(t *testing.T, f *fakeVIP) {
			f.vip.link.update(netif.LinkChanged{Index: 7, HardwareAddr: ownMAC})
			time.Sleep(carrierDebounce)
			f.vip.link.debounce()
			f.vip.update()
			require.ErrorIs(t, f.contender.last().Ineligible, errLinkDown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				prepare(t, f)
				f.reconfigure(priority(7))
				assert.Equal(t, 7, f.contender.last().Priority)
				sets := f.contender.sets
				f.reconfigure(func(c *config.VIP) { c.DeadMan = time.Minute })
				assert.Equal(t, sets, f.contender.sets, "dead_man does not concern the lock")
			})
		})
	}
}

// A lock that is not contended for any more is not changed: it may be another
// contender's by then.
func TestNoChangeAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.vip.fitness.fail(errTest)
		f.vip.close()
		sets := f.contender.sets
		f.vip.update()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, sets, f.contender.sets)
		assert.True(t, f.contender.closed)
	})
}

func TestTenureOfAHold(t *testing.T) {
	held := &lease.Held{Previous: crashed.previous, Before: crashed.before}
	got := newFakeVIP(nil).vip.newTenure(held)
	assert.Equal(t, crashed.before, got.before)
	assert.Equal(t, []any{"previous_owner", "h2", "record", "held"}, got.fields())
	assert.Equal(t, []any{"transferred_by", "h2", "record", "handover"}, transferred.fields())
	assert.Nil(t, unknown.fields())
}
