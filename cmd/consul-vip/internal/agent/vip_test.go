package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

var (
	foreign = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	errTest = errors.New("ended by a test")
)

// world is everything around a VIP, and a log of what the VIP did to it.
type world struct {
	vip *vip

	mu   sync.Mutex
	did  []string
	born time.Time

	// the lock
	asleep   atomic.Int64  // time that passed unseen by Go's clock
	deadline time.Duration // the hold deadline on the clock of Now
	verdict  error         // Verify's answer

	// the wire
	answer   error // Ask's
	entitled func() bool
	claims   chan announcer.Claim

	// the succession
	yielded bool // the last owner has said that it let go

	// the kernel
	taken     error
	lifetimes []time.Duration
	missing   bool // the address was removed by someone else
	refused   error
	binding   func()
}

func newWorld(change func(*config.VIP)) *world {
	w := &world{born: time.Now(), deadline: time.Hour, claims: make(chan announcer.Claim, 1)}
	cfg := config.VIP{
		Prefix: netip.MustParsePrefix("10.77.0.100/32"), DeadMan: 5 * time.Second,
		OnConflict: config.ConflictExit, OnLoss: config.LossExit, Takeover: config.TakeoverProbe,
	}
	if change != nil {
		change(&cfg)
	}
	l := newLink(&net.Interface{Index: 7, Name: "eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, nil)
	w.vip = newVIP(cfg, l, w, w, hclog.NewNullLogger())
	return w
}

func (w *world) do(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, what)
}

func (w *world) deeds() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.did...)
}

// hold
func (w *world) Now() time.Duration       { return time.Since(w.born) + time.Duration(w.asleep.Load()) }
func (w *world) Remaining() time.Duration { return w.deadline - w.Now() }
func (w *world) Verify(context.Context) error {
	w.do("verify")
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict
}

func (w *world) Serving() { w.do("serving") }

// wire
func (w *world) Ask(_ context.Context, q announcer.Question) error {
	w.do("ask " + q.Last.String())
	return w.answer
}

func (w *world) Announce(ctx context.Context, a announcer.Announcement, again <-chan struct{}) error {
	w.entitled = a.Entitled
	w.do("announce")
	defer w.do("silence")
	for {
		select {
		case <-again:
			w.do("announce again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) Listen(netip.Addr) listener { return w }

// succession
func (w *world) Heir(netip.Addr) heir { return w }

func (w *world) Yield(context.Context, netip.Addr) error {
	w.do("yield")
	return nil
}

// heir
func (w *world) Await(_ context.Context, owner net.HardwareAddr, _ time.Duration) bool {
	w.do("await " + owner.String())
	return w.yielded
}

// listener
func (w *world) Claims() <-chan announcer.Claim { return w.claims }
func (w *world) Close()                         {}

// kernel
func (w *world) Bind(_ int, _ netip.Prefix, lifetime time.Duration) (bound, error) {
	w.do("bind")
	if w.binding != nil {
		w.binding()
	}
	w.lifetimes = append(w.lifetimes, lifetime)
	return w, nil
}

// bound
func (w *world) Refresh(lifetime time.Duration) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lifetimes = append(w.lifetimes, lifetime)
	restored := w.missing
	w.missing = false
	return restored, nil
}

func (w *world) Taken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken
}

func (w *world) Unbind() error {
	w.do("unbind")
	return w.refused
}

// serving runs serve until test has done its part, and returns serve's error.
func serving(w *world, last lease.Record, test func(stop context.CancelCauseFunc)) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.vip.serve(ctx, last, w, w) }()
	synctest.Wait()
	test(cancel)
	synctest.Wait()
	select {
	case err := <-ended:
		cancel(nil)
		return err
	default:
		cancel(errTest)
		return errors.Join(errors.New("still serving"), <-ended)
	}
}

func stopped(stop context.CancelCauseFunc) { stop(errTest) }

var released = lease.Record{State: lease.StateReleased, Node: "h2"}

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
		w.answer = &announcer.AnsweredError{Addr: w.vip.cfg.Addr(), MAC: foreign}
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
			assert.Equal(t, []string{"ask ", "bind", "serving", "announce"}, w.deeds())
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

func TestLifetimesNeverPassTheHoldDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.deadline = 7500 * time.Millisecond
		err := serving(w, released, func(context.CancelCauseFunc) { time.Sleep(10 * time.Second) })
		require.ErrorIs(t, err, lease.ErrSessionLost)
		s := time.Second
		assert.Equal(t, []time.Duration{5 * s, 5 * s, 5 * s, 4 * s, 3 * s, 2 * s, 1 * s}, w.lifetimes)
	})
}

func TestAfterAPauseConsulIsAskedFirst(t *testing.T) {
	tests := map[string]struct {
		verdict   error
		want      error
		refreshed bool
	}{
		"still ours":    {nil, nil, true},
		"lost":          {lease.ErrLockLost, lease.ErrLockLost, false},
		"Consul silent": {errTest, nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(nil)
				w.verdict = test.verdict
				err := serving(w, released, func(stop context.CancelCauseFunc) {
					w.asleep.Store(int64(4 * time.Second))
					w.missing = true
					notify(w.vip.missing)
					synctest.Wait()
					assert.Equal(t, test.refreshed, len(w.lifetimes) == 2)
					stop(errTest)
				})
				if test.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, test.want)
				}
				assert.Contains(t, w.deeds(), "verify")
			})
		})
	}
}

func TestAddressRemovedByOthersIsBoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		require.NoError(t, serving(w, released, func(stop context.CancelCauseFunc) {
			began := time.Now()
			w.missing = true
			notify(w.vip.missing)
			synctest.Wait()
			assert.Zero(t, time.Since(began))
			assert.Equal(t, []string{"bind", "serving", "announce", "announce again"}, w.deeds())
			notify(w.vip.missing) // of our own Unbind, or a Resync: it is there
			synctest.Wait()
			assert.Equal(t, []string{"bind", "serving", "announce", "announce again"}, w.deeds())
			stop(errTest)
		}))
	})
}

func TestAddressRemovedOverAndOverIsALoss(t *testing.T) {
	for pause, want := range map[time.Duration]error{10 * time.Second: ErrAddressLost, 20 * time.Second: nil} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			err := serving(w, released, func(stop context.CancelCauseFunc) {
				for range rebindLimit {
					time.Sleep(pause)
					w.mu.Lock()
					w.missing = true
					w.mu.Unlock()
					notify(w.vip.missing)
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
		w := newWorld(nil)
		notify(w.vip.taken) // before it was ours
		err := serving(w, released, func(context.CancelCauseFunc) {
			notify(w.vip.taken) // and let go again since
			synctest.Wait()
			w.mu.Lock()
			w.taken = netif.ErrForeign
			w.mu.Unlock()
			notify(w.vip.taken)
		})
		require.ErrorIs(t, err, netif.ErrForeign)
		assert.Equal(t, []string{"bind", "serving", "announce", "silence", "unbind"}, w.deeds())
	})
}

var handover = lease.Record{State: lease.StateHandover, From: "h2", Node: "h1", Owner: lease.Owner{MAC: "02:00:00:00:00:02"}}

func TestServeAfterAHandover(t *testing.T) {
	for name, test := range map[string]struct {
		yielded bool
		did     []string
	}{
		"with a word": {true, []string{"await 02:00:00:00:00:02", "bind", "serving", "announce"}},
		"without":     {false, []string{"await 02:00:00:00:00:02", "ask 02:00:00:00:00:02", "bind", "serving", "announce"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(nil)
				w.yielded = test.yielded
				require.NoError(t, serving(w, handover, func(stop context.CancelCauseFunc) {
					assert.Equal(t, test.did, w.deeds())
					stop(errTest)
				}))
			})
		})
	}
}

func TestServeHandedOverYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		require.NoError(t, serving(w, released, func(stop context.CancelCauseFunc) {
			stop(fmt.Errorf("%w to h2: stopped", lease.ErrHandedOver))
		}))
		assert.Equal(t, []string{"bind", "serving", "announce", "silence", "unbind", "yield"}, w.deeds())
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.refused = errTest
		require.ErrorIs(t, serving(w, released, func(stop context.CancelCauseFunc) {
			stop(lease.ErrHandedOver)
		}), lease.ErrUnclean)
		assert.NotContains(t, w.deeds(), "yield", "the address is still in the kernel")
	})
}

func TestNoAnnouncementAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		w.verdict = errTest
		require.NoError(t, serving(w, released, func(stop context.CancelCauseFunc) {
			assert.True(t, w.entitled())
			w.asleep.Store(int64(4 * time.Second))
			assert.False(t, w.entitled(), "before anything else has noticed the pause")
			time.Sleep(3 * time.Second)
			assert.False(t, w.entitled(), "as long as Consul has not confirmed the lock")
			w.mu.Lock()
			w.verdict = nil
			w.mu.Unlock()
			time.Sleep(refreshInterval)
			synctest.Wait()
			assert.True(t, w.entitled())
			stop(errTest)
		}))
	})
}

func TestConflicts(t *testing.T) {
	tests := map[string]struct {
		policy  config.OnConflict
		verdict error
		want    error
		quit    bool
		did     []string
	}{
		"exit":                {config.ConflictExit, nil, ErrConflict, false, []string{"silence", "unbind"}},
		"quit":                {config.ConflictQuit, nil, ErrConflict, true, []string{"silence", "unbind"}},
		"defend, lock ours":   {config.ConflictDefend, nil, nil, false, []string{"verify", "announce again"}},
		"defend, lock lost":   {config.ConflictDefend, lease.ErrLockLost, lease.ErrLockLost, false, []string{"verify", "silence", "unbind"}},
		"defend, lock unsure": {config.ConflictDefend, errTest, ErrConflict, false, []string{"verify", "silence", "unbind"}},
		"log":                 {config.ConflictLog, nil, nil, false, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(func(c *config.VIP) { c.OnConflict = test.policy })
				w.verdict = test.verdict
				began := time.Now()
				var did []string
				err := serving(w, released, func(stop context.CancelCauseFunc) {
					w.claims <- announcer.Claim{Addr: w.vip.cfg.Addr(), MAC: foreign, Received: began}
					synctest.Wait()
					did = w.deeds()
					stop(errTest)
				})
				assert.Zero(t, time.Since(began))
				assert.Equal(t, append([]string{"bind", "serving", "announce"}, test.did...), did)
				if test.want == nil {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, test.want)
				var conflict *ConflictError
				if errors.As(err, &conflict) {
					assert.Equal(t, foreign, conflict.MAC)
					assert.Equal(t, test.quit, conflict.Quit)
				}
			})
		})
	}
}

func TestDefendIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(c *config.VIP) { c.OnConflict = config.ConflictDefend })
		require.NoError(t, serving(w, released, func(stop context.CancelCauseFunc) {
			for range 90 {
				select {
				case w.claims <- announcer.Claim{MAC: foreign}:
				default: // claims coalesce
				}
				time.Sleep(50 * time.Millisecond)
			}
			stop(errTest)
		}))
		defended := 0
		for _, d := range w.deeds() {
			if d == "announce again" {
				defended++
			}
		}
		assert.Equal(t, 5, defended, "once a second, the first at once")
	})
}

func TestCarrier(t *testing.T) {
	down := netif.LinkChanged{Index: 7, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	up := down
	up.Up = true
	t.Run("a flap is ridden out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			require.NoError(t, serving(w, released, func(stop context.CancelCauseFunc) {
				w.vip.link.update(down)
				time.Sleep(carrierDebounce - time.Millisecond)
				w.vip.link.update(up)
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Equal(t, []string{"bind", "serving", "announce", "announce again"}, w.deeds())
				stop(errTest)
			}))
		})
	})
	t.Run("a loss gives the address away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			err := serving(w, released, func(context.CancelCauseFunc) {
				w.vip.link.update(down)
				time.Sleep(carrierDebounce)
			})
			require.ErrorIs(t, err, errCarrier)
		})
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
