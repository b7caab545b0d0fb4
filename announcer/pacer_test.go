package announcer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A sequence records the ordinals of frames in the order in which they were sent.
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

// queueTurns queues turns with these ordinals, one after the other.
func queueTurns(t *testing.T, p *pacer, ordinals ...int) *sequence {
	t.Helper()
	sent := &sequence{}
	for _, o := range ordinals {
		go func() { _ = p.do(t.Context(), o, func() error { sent.add(o); return nil }) }()
		synctest.Wait()
	}
	return sent
}

func TestPacerOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		var shuffled []int
		for i := range 1000 {
			shuffled = append(shuffled, (i*7)%10) // 100 of each
		}
		sent := queueTurns(t, p, shuffled...)
		want := slices.Sorted(slices.Values(shuffled))

		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, sent.get(), "no frame is sent before run")

		go p.run(t.Context())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, want, sent.get())
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
		require.Zero(t, at[0], "a single frame does not wait")
		require.Zero(t, at[frameBurst-1])
		require.NotZero(t, at[frameBurst])
		last := at[len(at)-1]
		require.InDelta(t, 0.1, last.Seconds(), 0.01, "1,000 frames at 10,000 a second")
	})
}

// A frame queues behind a waiting one, even if the rate allows a frame.
func TestPacerNoOvertaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		first := queueTurns(t, p, 1)
		p.mu.Lock()
		p.running = true
		p.mu.Unlock()
		second := queueTurns(t, p, 1)
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
		send := func() error { assert.Fail(t, "sent"); return nil }
		for range 3 {
			go func() { ended <- p.do(ctx, 0, send) }()
		}
		synctest.Wait()
		cancel(cause)
		for range 3 {
			require.ErrorIs(t, <-ended, cause)
		}
		require.Empty(t, p.queue)
		require.ErrorIs(t, p.do(ctx, 0, send), cause, "no frame is sent after the context has ended")

		go p.run(t.Context())
		time.Sleep(time.Second)
	})
}

// A turn is not used if its context ended at the same moment.
func TestPacerCancelledInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- p.do(ctx, 0, func() error { assert.Fail(t, "sent"); return nil })
		}()
		synctest.Wait()
		p.mu.Lock()
		p.running = true
		cancel() // do wakes and waits for the lock
		p.mu.Unlock()
		p.next()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

func TestPacerClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		send := func() error { assert.Fail(t, "sent"); return nil }
		ended := make(chan error)
		go func() { ended <- p.do(t.Context(), 0, send) }()
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p.mu.Lock()
		p.limit.SetBurst(0) // so that run gives no turn before it notices the end of ctx
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
