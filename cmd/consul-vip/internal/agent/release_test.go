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

func TestServeUndoesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nil)
		require.NoError(t, serving(w, released, stopped))
		assert.Equal(t, []string{"bind", "serving", "announce", "silence", "unbind"}, w.deeds())
	})
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
