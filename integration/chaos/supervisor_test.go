package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestSupervisorAwait changes what runs until the condition holds.
func TestSupervisorAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(&lab.Host{Name: "h1"}, lab.Command{}, new(journal), nil, nil)
		reached := false
		go func() {
			err := s.await(t.Context(), func(i instance) bool { return i.halted && i.process != nil })
			reached = err == nil
		}()
		s.update(func(i *instance) { i.process = new(lab.Process) })
		synctest.Wait()
		require.False(t, reached)
		s.update(func(i *instance) { i.halted = true })
		synctest.Wait()
		require.True(t, reached)

		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("cause")
		cancel(cause)
		require.ErrorIs(t, s.await(ctx, func(instance) bool { return false }), cause)
	})
}

// TestSupervisorWithoutProcess has no fault find a process to hit.
func TestSupervisorWithoutProcess(t *testing.T) {
	s := newSupervisor(&lab.Host{Name: "h1"}, lab.Command{}, new(journal), nil, nil)
	require.ErrorIs(t, s.stop(t.Context(), nil, 0), errNoTarget)
	require.ErrorIs(t, s.freeze(t.Context(), 0), errNoTarget)
	require.ErrorIs(t, s.notify(0), errNoTarget)
	require.NoError(t, s.halt())
	require.NoError(t, s.resume())
	require.NoError(t, s.retire(t.Context()))
	require.Empty(t, s.processes())
}
