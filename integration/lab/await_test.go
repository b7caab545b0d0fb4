package lab

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		require.NoError(t, Await(t.Context(), func() error {
			if calls++; calls < 3 {
				return errors.New("not yet")
			}
			return nil
		}))
		require.Equal(t, 3, calls)
	})
}

// TestAwaitKeepsTheReason has the condition fail only because its context ended, the
// last time that it is called.
func TestAwaitKeepsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("too late"))
		defer cancel()
		err := Await(ctx, func() error {
			if deadline, _ := ctx.Deadline(); time.Until(deadline) <= pollInterval {
				return Sleep(ctx, time.Hour)
			}
			return errors.New("the reason")
		})
		require.EqualError(t, err, "too late; last state: the reason")
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.NoError(t, Sleep(t.Context(), time.Hour))
		require.Equal(t, time.Hour, time.Since(began))
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("cause")
		cancel(cause)
		require.ErrorIs(t, Sleep(ctx, time.Hour), cause)
	})
}
