package announcer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A sequence notes the ordinals of turns as they are taken.
type sequence struct {
	mu  sync.Mutex
	all []int
}

func (s *sequence) add(ordinal int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, ordinal)
}

func (s *sequence) get() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// queueOf queues turns with the given ordinals.
func queueOf(t *testing.T, p *pacer, ordinals ...int) *sequence {
	t.Helper()
	left := &sequence{}
	for _, o := range ordinals {
		go func() { _ = p.do(t.Context(), o, func() error { left.add(o); return nil }) }()
		synctest.Wait() // one after the other, so that who came first is certain
	}
	return left
}

func TestPacerOrdinalsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		var shuffled []int
		for i := range 1000 {
			shuffled = append(shuffled, (i*7)%10) // 100 of each
		}
		left := queueOf(t, p, shuffled...)
		want := slices.Sorted(slices.Values(shuffled))

		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, left.get(), "nothing leaves before run")

		go p.run(t.Context())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, want, left.get())
	})
}

func TestPacerRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		go p.run(t.Context())
		synctest.Wait()

		start := time.Now()
		var at []time.Duration
		done := make(chan struct{})
		for range 1000 {
			go func() {
				_ = p.do(t.Context(), 0, func() error { at = append(at, time.Since(start)); return nil })
				done <- struct{}{}
			}()
		}
		for range 1000 {
			<-done
		}
		require.Zero(t, at[0], "a lone frame does not wait")
		require.Zero(t, at[frameBurst-1])
		require.NotZero(t, at[frameBurst])
		last := at[len(at)-1]
		require.InDelta(t, 0.1, last.Seconds(), 0.01, "1,000 frames at 10,000 a second")
	})
}

// Who comes while another waits queues behind it, though a frame could leave.
func TestPacerNoOvertaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		first := queueOf(t, p, 1)
		p.mu.Lock()
		p.running = true
		p.mu.Unlock()
		second := queueOf(t, p, 1)
		require.Empty(t, second.get())

		require.True(t, p.next())
		require.Len(t, first.get(), 1)
		require.Empty(t, second.get())
		require.True(t, p.next())
		require.Len(t, second.get(), 1)
		require.False(t, p.next())
	})
}

func TestPacerCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		cause := errors.New("lock lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		send := func() error { t.Error("sent"); return nil }
		for range 3 {
			go func() { ended <- p.do(ctx, 0, send) }()
		}
		synctest.Wait()
		cancel(cause)
		for range 3 {
			require.ErrorIs(t, <-ended, cause)
		}
		require.Empty(t, p.queue)
		require.ErrorIs(t, p.do(ctx, 0, send), cause, "an ended context never sends")

		go p.run(t.Context())
		time.Sleep(time.Second)
	})
}

// A turn given in the same instant in which its context ended is not used.
func TestPacerCancelledInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- p.do(ctx, 0, func() error { t.Error("sent"); return nil })
		}()
		synctest.Wait()
		p.mu.Lock()
		p.running = true
		cancel() // the waiter wakes and wants the lock
		p.mu.Unlock()
		p.next()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

func TestPacerClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		send := func() error { t.Error("sent"); return nil }
		ended := make(chan error)
		go func() { ended <- p.do(t.Context(), 0, send) }()
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p.mu.Lock()
		p.limit.SetBurst(0) // so that run gives no turn before it sees that ctx ended
		p.mu.Unlock()
		p.run(ctx)
		require.ErrorIs(t, <-ended, ErrClosed)
		require.ErrorIs(t, p.do(t.Context(), 0, send), ErrClosed)
	})
}

func TestPacerReturnsSendError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		broken := errors.New("broken")
		ended := make(chan error)
		go func() { ended <- p.do(t.Context(), 0, func() error { return broken }) }()
		synctest.Wait()
		go p.run(t.Context())
		require.ErrorIs(t, <-ended, broken, "queued")
		require.ErrorIs(t, p.do(t.Context(), 0, func() error { return broken }), broken, "at once")
	})
}
