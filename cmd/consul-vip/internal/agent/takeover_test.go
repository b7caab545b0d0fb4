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
		"probe 02:00:00:00:00:02": {State: lease.StateHeld, Owner: lease.Owner{MAC: "02:00:00:00:00:02"}},
		"probe ":                  {},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			require.NoError(t, f.serve(last, stopAtOnce))
			assert.Equal(t, []string{state, "bind", "serving", "announce", "stop announcing", "unbind"}, f.recorded())
		})
	}
}

func TestServeLeavesAStrangerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.probeErr = &announcer.InUseError{Addr: f.vip.cfg().Addr(), MAC: strangerMAC}
		err := f.serve(lease.Record{}, endsByItself)
		require.ErrorIs(t, err, ErrConflict)
		assert.ErrorContains(t, err, strangerMAC.String())
		assert.Equal(t, []string{"probe "}, f.recorded())
	})
}

func TestServeStrictWaitsOutTheLastOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(func(c *config.VIP) { c.Takeover = config.TakeoverStrict })
		last := lease.Record{State: lease.StateHeld, TTL: "15s"}
		require.NoError(t, f.serve(last, func(stop context.CancelCauseFunc) {
			time.Sleep(15*time.Second - time.Millisecond)
			synctest.Wait()
			assert.Empty(t, f.recorded(), "what is heard before proves nothing")
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

// A process that was paused between acquiring the lock and binding the address
// may have lost the one and not have heard of it.
func TestServePausedBeforeBinding(t *testing.T) {
	for name, test := range map[string]struct {
		verdict error
		did     []string
	}{
		"lost": {lease.ErrLockLost, []string{"probe ", "verify"}},
		"held": {nil, []string{"probe ", "verify", "bind", "serving", "announce", "stop announcing", "unbind"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.verifyErr = test.verdict
				f.onProbe = func() { f.asleep.Store(int64(2 * time.Second)) }
				require.ErrorIs(t, f.serve(lease.Record{}, stopAtOnce), test.verdict)
				assert.Equal(t, test.did, f.recorded())
			})
		})
	}
}

func TestServePausedWhileBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.onBind = func() { f.asleep.Store(int64(2 * time.Second)) }
		require.ErrorIs(t, f.serve(released, endsByItself), lease.ErrSessionLost)
		assert.Equal(t, []string{"bind", "unbind"}, f.recorded())
	})
}

var transferred = lease.Record{State: lease.StateHandover, From: "h2", Node: "h1", Owner: lease.Owner{MAC: "02:00:00:00:00:02"}}

func TestServeAfterAHandover(t *testing.T) {
	for name, test := range map[string]struct {
		yielded bool
		did     []string
	}{
		"with a word": {true, []string{"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02", "bind", "serving", "announce"}},
		"without": {false, []string{
			"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02", "send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02",
			"send ready to 02:00:00:00:00:02", "await released from 02:00:00:00:00:02", "probe 02:00:00:00:00:02", "bind", "serving", "announce",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeVIP(nil)
				f.releasedSent = test.yielded
				require.NoError(t, f.serve(transferred, func(stop context.CancelCauseFunc) {
					assert.Equal(t, test.did, f.recorded())
					stop(errTest)
				}))
			})
		})
	}
}
