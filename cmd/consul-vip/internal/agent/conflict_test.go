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

func TestConflictPolicies(t *testing.T) {
	tests := map[string]struct {
		policy    config.OnConflict
		verifyErr error
		want      error
		quit      bool
		calls     []string
	}{
		"exit":                {config.ConflictExit, nil, ErrConflict, false, []string{"stop announcing", "unbind"}},
		"quit":                {config.ConflictQuit, nil, ErrConflict, true, []string{"stop announcing", "unbind"}},
		"defend, lock held":   {config.ConflictDefend, nil, nil, false, []string{"verify", "announce again"}},
		"defend, lock lost":   {config.ConflictDefend, lease.ErrLockLost, lease.ErrLockLost, false, []string{"verify", "stop announcing", "unbind"}},
		"defend, lock unsure": {config.ConflictDefend, errTest, ErrConflict, false, []string{"verify", "stop announcing", "unbind"}},
		"log":                 {config.ConflictLog, nil, nil, false, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(func(c *config.VIP) { c.OnConflict = test.policy })
				f.verifyErr = test.verifyErr
				began := time.Now()
				err := f.serve(released, func(stop context.CancelCauseFunc) {
					f.claims <- announcer.Claim{Addr: f.vip.cfg().Addr(), MAC: strangerMAC, Received: began}
					synctest.Wait()
					assert.Equal(t, append([]string{"bind", "serving", "announce"}, test.calls...), f.recorded())
					stop(errTest)
				})
				assert.Zero(t, time.Since(began))
				require.ErrorIs(t, err, test.want)
				var conflict *ConflictError
				if errors.As(err, &conflict) {
					assert.Equal(t, strangerMAC, conflict.MAC)
					assert.Equal(t, test.quit, conflict.Quit)
				}
			})
		})
	}
}

func TestDefendIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(func(c *config.VIP) { c.OnConflict = config.ConflictDefend })
		require.NoError(t, f.serve(released, func(stop context.CancelCauseFunc) {
			for range 90 {
				select {
				case f.claims <- announcer.Claim{MAC: strangerMAC}:
				default: // the listener keeps one claim
				}
				time.Sleep(50 * time.Millisecond)
			}
			stop(errTest)
		}))
		defended := 0
		for _, call := range f.recorded() {
			if call == "announce again" {
				defended++
			}
		}
		assert.Equal(t, 5, defended, "at once, and then once a second")
	})
}

// A claim that arrives after the lock was lost comes from the successor.
func TestClaimOfTheSuccessorIsNoConflict(t *testing.T) {
	claim := func(f *fakeVIP) {
		f.claims <- announcer.Claim{Addr: f.vip.cfg().Addr(), MAC: strangerMAC, Received: time.Now()}
		synctest.Wait()
	}
	t.Run("after the address's lifetime has ended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			f.deadline = 7900 * time.Millisecond
			err := f.serve(released, func(context.CancelCauseFunc) {
				time.Sleep(7500 * time.Millisecond)
				claim(f)
			})
			require.ErrorIs(t, err, lease.ErrSessionLost)
			require.NotErrorIs(t, err, ErrConflict)
		})
	})
	t.Run("first event after a pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			f.verifyErr = lease.ErrLockLost
			err := f.serve(released, func(context.CancelCauseFunc) {
				f.asleep.Store(int64(4 * time.Second))
				claim(f)
			})
			require.ErrorIs(t, err, lease.ErrLockLost)
			require.NotErrorIs(t, err, ErrConflict)
		})
	})
}
