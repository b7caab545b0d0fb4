package agent

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease"
)

func TestReleaseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		require.NoError(t, f.serve(released, stopAtOnce))
		assert.Equal(t, []string{"bind", "serving", "announce", "stop announcing", "unbind"}, f.recorded())
	})
}

func TestReleaseAfterATransfer(t *testing.T) {
	for _, notReady := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeVIP(nil)
			f.notReady = notReady
			require.NoError(t, f.serve(released, func(stop context.CancelCauseFunc) {
				stop(fmt.Errorf("%w to h2: stopped", lease.ErrTransferred))
			}))
			assert.Equal(t, []string{"bind", "serving", "announce", "stop announcing", "await ready", "unbind", "send released"}, f.recorded())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.unbindErr = errTest
		require.ErrorIs(t, f.serve(released, func(stop context.CancelCauseFunc) {
			stop(lease.ErrTransferred)
		}), lease.ErrUnclean)
		assert.NotContains(t, f.recorded(), "send released", "the kernel still has the address")
	})
}

func TestUnbindFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeVIP(nil)
		f.unbindErr = errTest
		require.ErrorIs(t, f.serve(released, stopAtOnce), lease.ErrUnclean)
	})
}
