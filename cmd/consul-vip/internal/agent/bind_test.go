package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// Less than a second before the hold deadline nothing is bound. The deadline may
// still move.
func TestHoldDeadlineBeforeBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.deadline.Store(int64(999 * time.Millisecond))
		f.serve(t, free, func(stop stopper) {
			time.Sleep(900 * time.Millisecond)
			f.deadline.Store(int64(30 * time.Second))
			time.Sleep(time.Second)
			synctest.Wait()
			assert.Contains(t, f.recorded(), "bind")
			stop(stopped)
		})
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.deadline.Store(int64(999 * time.Millisecond))
		lost := lease.End{Kind: lease.SessionLost, Reason: lease.ErrSessionLost}
		o := f.serve(t, free, func(stop stopper) {
			time.Sleep(999 * time.Millisecond)
			stop(lost)
		})
		assert.Equal(t, outcome{how: holdEnded}, o)
		assert.Empty(t, f.recorded())
	})
}

// A process that is paused before it binds the address may have lost the lock
// meanwhile.
func TestPausedBeforeBinding(t *testing.T) {
	probe := "prove 02:00:00:00:00:02 for 15s"
	for name, test := range map[string]struct {
		lost  bool
		calls []string
	}{
		"lost": {true, []string{probe, "confirm"}},
		"held": {false, with(probe, "confirm", bindsAndReleases)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.lost.Store(test.lost)
				f.prove = func(announcer.ProofConfig) error {
					f.pause(2 * time.Second)
					return nil
				}
				f.serve(t, crashed, stopAtOnce)
				assert.Equal(t, test.calls, f.recorded())
			})
		})
	}
}

// An address that was bound too late is unbound, and bound again once the lock is confirmed. A
// slow kernel is no lost session.
func TestBindingTakesTooLong(t *testing.T) {
	for name, late := range map[string]func(f *fakeVIP){
		"paused":                   func(f *fakeVIP) { f.pause(2 * time.Second) },
		"a slow kernel":            func(*fakeVIP) { time.Sleep(longestGap + 1) },
		"beyond the hold deadline": func(f *fakeVIP) { f.asleep.Store(int64(2 * time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.onBind = func() {
					f.onBind = nil
					late(f)
				}
				f.serve(t, free, func(stop stopper) {
					time.Sleep(2 * time.Second)
					synctest.Wait()
					f.deadline.Store(int64(4 * time.Hour))
					time.Sleep(2 * time.Second)
					synctest.Wait()
					calls := f.recorded()
					require.Greater(t, len(calls), 3)
					assert.Equal(t, []string{"bind", "unbind"}, calls[:2])
					assert.Equal(t, []string{"bind", "bound", "announce"}, calls[len(calls)-3:])
					stop(stopped)
				})
			})
		})
	}
}

// A kernel that always takes seconds gets more time with each try.
func TestAlwaysSlowKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.onBind = func() { time.Sleep(4 * time.Second) }
		f.serve(t, free, func(stop stopper) {
			time.Sleep(13 * time.Second)
			synctest.Wait()
			assert.Equal(t, []string{"bind", "unbind", "bind", "unbind", "bind", "bound", "announce"}, f.recorded())
			stop(stopped)
		})
	})
}

// Another program of this host has the address: this node leaves it to others until
// that program has removed it.
func TestForeignAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.foreignErr = &netif.ForeignError{Addr: f.vip.cfg().Addr(), Interface: "lo"}
		o := f.serve(t, free, endsByItself)
		assert.Equal(t, foreign, o.how)
		require.NoError(t, f.vip.exit(lease.End{Kind: lease.SteppedDown, Reason: o.err}, o), "the process goes on")
		assert.True(t, o.left().Unclean)
		require.ErrorIs(t, f.contender.last().Ineligible, netif.ErrForeign)
		f.vip.onRemoved(99)
		require.ErrorIs(t, f.contender.last().Ineligible, netif.ErrForeign, "it is still there")
		f.foreignErr = nil
		f.vip.onRemoved(99)
		require.NoError(t, f.contender.last().Ineligible)
	})
}

// The other program may have removed the address before this process knew that the
// event matters.
func TestForeignAddressThatIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.foreignErr = netif.ErrForeign
		f.vip.kernel = vanishing{f}
		o := f.serve(t, free, endsByItself)
		assert.Equal(t, foreign, o.how)
		require.NoError(t, f.contender.last().Ineligible)
	})
}

// vanishing is a kernel in which the foreign address is gone after the first look.
type vanishing struct{ *fakeVIP }

func (vanishing) Foreign(netip.Addr) error { return nil }

// The addresses wait for each other, and the lock of each is confirmed after that.
func TestManyAddressesAreBoundOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFakeVIP(nil), newFakeVIP(nil)
		second.vip.turns = first.vip.turns
		first.onBind = func() { time.Sleep(time.Second) }
		second.onBind = func() { assert.Contains(t, second.recorded(), "confirm") }
		first.serve(t, free, func(stop stopper) {
			second.serve(t, free, func(stop stopper) {
				assert.Empty(t, second.recorded())
				second.pause(time.Minute)
				time.Sleep(time.Second)
				synctest.Wait()
				assert.Equal(t, []string{"confirm", "bind", "bound", "announce"}, second.recorded())
				stop(stopped)
			})
			stop(stopped)
		})
	})
}

// However many addresses there are, and however long the kernel takes for each: all
// come up, and none that is up is refreshed too late.
func TestColdStartOfThousands(t *testing.T) {
	const addresses = 1000
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		ended := map[*fakeVIP]<-chan outcome{}
		for range addresses {
			f := newFakeVIP(nil)
			f.vip.turns = turns
			f.onBind = func() { time.Sleep(10 * time.Millisecond) }
			f.onRefresh = func() { time.Sleep(time.Millisecond) }
			ended[f] = f.startServing(free)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for f, ended := range ended {
			assert.Equal(t, []string{"bind", "bound", "announce"}, f.recorded())
			assert.Zero(t, f.lapses)
			f.finish(stopped)
			assert.Equal(t, holdEnded, (<-ended).how)
		}
	})
}
