package agent

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
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

func TestServeUndoesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		require.NoError(t, serving(w, released, stopped))
		assert.Equal(t, []string{"bind", "serving", "announce", "silence", "unbind"}, w.deeds())
	})
}

func TestServeAsksTheWireUnlessReleased(t *testing.T) {
	for state, last := range map[string]lease.Record{
		"ask 02:00:00:00:00:02": {State: lease.StateHeld, Owner: lease.Owner{MAC: "02:00:00:00:00:02"}},
		"ask ":                  {},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			require.NoError(t, serving(w, last, stopped))
			assert.Equal(t, []string{state, "bind", "serving", "announce", "silence", "unbind"}, w.deeds())
		})
	}
}

func TestServeLeavesAStrangerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.answer = &announcer.InUseError{Addr: w.vip.cfg().Addr(), MAC: foreign}
		err := serving(w, lease.Record{}, func(context.CancelCauseFunc) {})
		require.ErrorIs(t, err, ErrConflict)
		assert.ErrorContains(t, err, foreign.String())
		assert.Equal(t, []string{"ask "}, w.deeds())
	})
}

func TestServeStrictWaitsOutTheLastOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(c *config.VIP) { c.Takeover = config.TakeoverStrict })
		last := lease.Record{State: lease.StateHeld, TTL: "15s"}
		require.NoError(t, serving(w, last, func(stop context.CancelCauseFunc) {
			time.Sleep(15*time.Second - time.Millisecond)
			synctest.Wait()
			assert.Empty(t, w.deeds(), "what is heard before proves nothing")
			time.Sleep(time.Millisecond)
			synctest.Wait()
			assert.Equal(t, []string{"ask ", "verify", "bind", "serving", "announce"}, w.deeds())
			stop(errTest)
		}))
	})
}

func TestHoldDeadlineBeforeBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.deadline = 999 * time.Millisecond
		require.ErrorIs(t, serving(w, released, func(context.CancelCauseFunc) {}), lease.ErrSessionLost)
		assert.Empty(t, w.deeds())
	})
}

func TestHoldDeadlineWhileBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.binding = func() { w.asleep.Store(int64(2 * time.Hour)) }
		require.ErrorIs(t, serving(w, released, func(context.CancelCauseFunc) {}), lease.ErrSessionLost)
		assert.Equal(t, []string{"bind", "unbind"}, w.deeds())
	})
}

// A process that was paused between acquiring the lock and binding the address
// may have lost the one and not have heard of it.
func TestServePausedBeforeBinding(t *testing.T) {
	for name, test := range map[string]struct {
		verdict error
		did     []string
	}{
		"lost": {lease.ErrLockLost, []string{"ask ", "verify"}},
		"held": {nil, []string{"ask ", "verify", "bind", "serving", "announce", "silence", "unbind"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(nil)
				w.verdict = test.verdict
				w.asking = func() { w.asleep.Store(int64(2 * time.Second)) }
				require.ErrorIs(t, serving(w, lease.Record{}, stopped), test.verdict)
				assert.Equal(t, test.did, w.deeds())
			})
		})
	}
}

func TestServePausedWhileBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.binding = func() { w.asleep.Store(int64(2 * time.Second)) }
		require.ErrorIs(t, serving(w, released, func(context.CancelCauseFunc) {}), lease.ErrSessionLost)
		assert.Equal(t, []string{"bind", "unbind"}, w.deeds())
	})
}

var handedOver = lease.Record{State: lease.StateHandover, From: "h2", Node: "h1", Owner: lease.Owner{MAC: "02:00:00:00:00:02"}}

func TestServeAfterAHandover(t *testing.T) {
	for name, test := range map[string]struct {
		yielded bool
		did     []string
	}{
		"with a word": {true, []string{"call 02:00:00:00:00:02", "await 02:00:00:00:00:02", "bind", "serving", "announce"}},
		"without": {false, []string{
			"call 02:00:00:00:00:02", "await 02:00:00:00:00:02", "call 02:00:00:00:00:02", "await 02:00:00:00:00:02",
			"call 02:00:00:00:00:02", "await 02:00:00:00:00:02", "ask 02:00:00:00:00:02", "bind", "serving", "announce",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(nil)
				w.yielded = test.yielded
				require.NoError(t, serving(w, handedOver, func(stop context.CancelCauseFunc) {
					assert.Equal(t, test.did, w.deeds())
					stop(errTest)
				}))
			})
		})
	}
}

func TestServeHandedOverYields(t *testing.T) {
	for _, uncalled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			w.uncalled = uncalled
			require.NoError(t, serving(w, released, func(stop context.CancelCauseFunc) {
				stop(fmt.Errorf("%w to h2: stopped", lease.ErrHandedOver))
			}))
			assert.Equal(t, []string{"bind", "serving", "announce", "silence", "await a call", "unbind", "yield"}, w.deeds())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.refused = errTest
		require.ErrorIs(t, serving(w, released, func(stop context.CancelCauseFunc) {
			stop(lease.ErrHandedOver)
		}), lease.ErrUnclean)
		assert.NotContains(t, w.deeds(), "yield", "the address is still in the kernel")
	})
}

func TestUnbindRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.refused = errTest
		require.ErrorIs(t, serving(w, released, stopped), lease.ErrUnclean)
	})
}

// scriptedLocks returns one result after the other, then waits for ctx.
type scriptedLocks struct {
	results []error
	held    int
}

func (l *scriptedLocks) Hold(ctx context.Context, _ lease.Lock, _ func(context.Context, *lease.Held) error) error {
	l.held++
	if len(l.results) == 0 {
		<-ctx.Done()
		return nil
	}
	err := l.results[0]
	l.results = l.results[1:]
	return err
}

func (l *scriptedLocks) Update(lease.Lock) bool { return true }

func TestRunContendsAgain(t *testing.T) {
	tests := map[string]struct {
		err    error
		onLoss config.OnLoss
		again  bool
	}{
		"lock lost, exit":       {lease.ErrLockLost, config.LossExit, false},
		"lock lost, contend":    {lease.ErrLockLost, config.LossContend, true},
		"session lost, contend": {lease.ErrSessionLost, config.LossContend, false},
		"carrier lost":          {errCarrier, config.LossExit, true},
		"address lost, exit":    {ErrAddressLost, config.LossExit, false},
		"address lost, contend": {ErrAddressLost, config.LossContend, true},
		"handed over":           {lease.ErrHandedOver, config.LossExit, true},
		"given up":              {lease.ErrReleased, config.LossExit, true},
		"conflict, contend":     {&ConflictError{}, config.LossContend, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(func(c *config.VIP) { c.OnLoss = test.onLoss })
				locks := &scriptedLocks{results: []error{test.err}}
				w.vip.locks = locks
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- w.vip.run(ctx) }()
				synctest.Wait()
				if test.again {
					assert.Equal(t, 2, locks.held)
					cancel()
					require.NoError(t, <-ended)
					return
				}
				cancel()
				require.ErrorIs(t, <-ended, test.err)
				assert.Equal(t, 1, locks.held)
			})
		})
	}
}

func TestRunDoesNotContendWithoutCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		locks := &scriptedLocks{}
		w.vip.locks = locks
		w.vip.link.update(netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.vip.run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Zero(t, locks.held)
		w.vip.link.update(netif.LinkChanged{Index: 7, Up: true, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		synctest.Wait()
		assert.Equal(t, 1, locks.held)
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestLockSaysWhoContends(t *testing.T) {
	w := newWorld(func(c *config.VIP) { c.Priority = 7 })
	w.vip.owner = lease.Owner{AllocID: "c0ffee", Job: "consul-vip"}
	assert.Equal(t, lease.Lock{Name: "10.77.0.100", Priority: 7, Owner: lease.Owner{
		Interface: "eth0", MAC: "02:00:00:00:00:01", AllocID: "c0ffee", Job: "consul-vip",
	}}, w.vip.lock())
}

func TestRunHeedsOnLossAsItIsByThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		locks := &lateLocks{losing: make(chan struct{})}
		w.vip.locks = locks
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.vip.run(ctx) }()
		synctest.Wait()
		w.reconfigure(func(c *config.VIP) { c.OnLoss = config.LossContend })
		close(locks.losing)
		synctest.Wait()
		assert.Empty(t, ended)
		cancel()
		require.NoError(t, <-ended)
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

// A change reaches the lock whatever the VIP is just about to do.
func TestChangeIsNotLost(t *testing.T) {
	priority := func(n int) func(*config.VIP) { return func(c *config.VIP) { c.Priority = n } }
	t.Run("while the lock is asked for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			locks := &lateLocks{late: 5 * time.Millisecond}
			w.vip.locks = locks
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- w.vip.run(ctx) }()
			synctest.Wait()
			w.reconfigure(priority(7))
			assert.Equal(t, 7, locks.lock.Priority)
			w.reconfigure(func(c *config.VIP) { c.DeadMan = time.Minute })
			assert.EqualValues(t, 1, locks.updates.Load(), "not for what is none of its business")
			cancel()
			require.NoError(t, <-ended)
		})
	})
	t.Run("while the link is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			locks := &lateLocks{}
			w.vip.locks = locks
			link := netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
			w.vip.link.update(link)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- w.vip.run(ctx) }()
			synctest.Wait()
			w.reconfigure(priority(7))
			link.Up = true
			w.vip.link.update(link)
			synctest.Wait()
			assert.Equal(t, 7, locks.lock.Priority)
			cancel()
			require.NoError(t, <-ended)
		})
	})
}
