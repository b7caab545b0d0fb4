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
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

func TestTakeoverProbesUnlessReleased(t *testing.T) {
	for probe, previous := range map[string]leasestate.Record{
		"probe 02:00:00:00:00:02": {State: leasestate.RecordHeld, Owner: Owner{MAC: "02:00:00:00:00:02"}.encode()},
		"probe ":                  {},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			require.NoError(t, f.serve(previous, stopAtOnce))
			assert.Equal(t, []string{probe, "bind", "serving", "announce", "stop announcing", "unbind"}, f.recorded())
		})
	}
}

func TestTakeoverFindsAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.probeErr = &announcer.InUseError{Addr: f.vip.cfg().Addr(), MAC: strangerMAC}
		err := f.serve(leasestate.Record{}, endsByItself)
		require.ErrorIs(t, err, ErrConflict)
		assert.ErrorContains(t, err, strangerMAC.String())
		assert.Equal(t, []string{"probe "}, f.recorded())
	})
}

func TestStrictTakeoverWaitsForTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(func(c *config.VIP) { c.Takeover = config.TakeoverStrict })
		previous := leasestate.Record{State: leasestate.RecordHeld, TTL: "15s"}
		require.NoError(t, f.serve(previous, func(stop context.CancelCauseFunc) {
			time.Sleep(15*time.Second - time.Millisecond)
			synctest.Wait()
			assert.Empty(t, f.recorded(), "a probe before that would prove nothing")
			time.Sleep(time.Millisecond)
			synctest.Wait()
			assert.Equal(t, []string{"probe ", "verify", "bind", "serving", "announce"}, f.recorded())
			stop(errTest)
		}))
	})
}

func TestHoldDeadlineBeforeBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.deadline = 999 * time.Millisecond
		require.ErrorIs(t, f.serve(released, endsByItself), lease.ErrSessionLost)
		assert.Empty(t, f.recorded())
	})
}

func TestHoldDeadlineWhileBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.onBind = func() { f.asleep.Store(int64(2 * time.Hour)) }
		require.ErrorIs(t, f.serve(released, endsByItself), lease.ErrSessionLost)
		assert.Equal(t, []string{"bind", "unbind"}, f.recorded())
	})
}

// A process that is paused before it binds the address may have lost the lock
// meanwhile.
func TestPausedBeforeBinding(t *testing.T) {
	for name, test := range map[string]struct {
		verifyErr error
		calls     []string
	}{
		"lost": {lease.ErrLockLost, []string{"probe ", "verify"}},
		"held": {nil, []string{"probe ", "verify", "bind", "serving", "announce", "stop announcing", "unbind"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.verifyErr = test.verifyErr
				f.onProbe = func() { f.asleep.Store(int64(2 * time.Second)) }
				require.ErrorIs(t, f.serve(leasestate.Record{}, stopAtOnce), test.verifyErr)
				assert.Equal(t, test.calls, f.recorded())
			})
		})
	}
}

func TestPausedWhileBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.onBind = func() { f.asleep.Store(int64(2 * time.Second)) }
		require.ErrorIs(t, f.serve(released, endsByItself), lease.ErrSessionLost)
		assert.Equal(t, []string{"bind", "unbind"}, f.recorded())
	})
}

// transferred is the record of a lock that h2 has transferred to this node.
var transferred = leasestate.Record{State: leasestate.RecordHandover, From: "h2", Node: "h1", Owner: Owner{MAC: "02:00:00:00:00:02"}.encode()}

func TestTakeoverAfterATransfer(t *testing.T) {
	for name, test := range map[string]struct {
		releasedSent bool
		calls        []string
	}{
		"released": {true, []string{
			"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02", "bind", "serving", "announce",
		}},
		"no released": {false, []string{
			"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02",
			"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02",
			"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02",
			"probe 02:00:00:00:00:02", "bind", "serving", "announce",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.releasedSent = test.releasedSent
				require.NoError(t, f.serve(transferred, func(stop context.CancelCauseFunc) {
					assert.Equal(t, test.calls, f.recorded())
					stop(errTest)
				}))
			})
		})
	}
}
