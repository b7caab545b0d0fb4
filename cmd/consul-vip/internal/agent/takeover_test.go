package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

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
