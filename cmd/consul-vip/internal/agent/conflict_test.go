package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

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
					w.claims <- announcer.Claim{Addr: w.vip.cfg().Addr(), MAC: foreign, Received: began}
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

func TestClaimsAfterTheEndAreTheSuccessors(t *testing.T) {
	claim := func(w *world) {
		w.claims <- announcer.Claim{Addr: w.vip.cfg().Addr(), MAC: foreign, Received: time.Now()}
		synctest.Wait()
	}
	t.Run("the kernel's lifetime ran out before the hold deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			w.deadline = 7900 * time.Millisecond
			err := serving(w, released, func(context.CancelCauseFunc) {
				time.Sleep(7500 * time.Millisecond)
				claim(w)
			})
			require.ErrorIs(t, err, lease.ErrSessionLost)
			require.NotErrorIs(t, err, ErrConflict)
		})
	})
	t.Run("it is the first that a thawed process sees", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(nil)
			w.verdict = lease.ErrLockLost
			err := serving(w, released, func(context.CancelCauseFunc) {
				w.asleep.Store(int64(4 * time.Second))
				claim(w)
			})
			require.ErrorIs(t, err, lease.ErrLockLost)
			require.NotErrorIs(t, err, ErrConflict)
		})
	})
}
