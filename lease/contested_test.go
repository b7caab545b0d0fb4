package lease

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/state"
)

const stranger = "02:00:00:00:00:66"

// meet has the lock's next owner meet the stranger, as the agent would, and returns
// what it knew of the stranger before.
func (b *instance) meet() (before *state.Contested) {
	b.t.Helper()
	end := b.run(ours, func(_ context.Context, h *Held) Left {
		before = h.Contested
		tries := 0
		if before != nil {
			tries = before.Tries + 1
		}
		return Left{Reason: assert.AnError, Contested: &state.Contested{MAC: stranger, Tries: tries}}
	})
	require.Equal(b.t, SteppedDown, end.Kind)
	require.False(b.t, end.Clean)
	return before
}

// A contested lock is left alone for longer and longer.
func TestContested(t *testing.T) {
	bubble(t, func(b *instance) {
		require.Nil(t, b.meet())
		r := b.record()
		assert.Equal(t, state.RecordContested, r.State)
		assert.Equal(t, "h1", r.Contested.By)
		assert.Empty(t, b.consul.Get(lockKey).Session)
		since := r.Contested.Since
		for _, backoff := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
			began := time.Now()
			before := b.meet()
			require.NotNil(t, before)
			assert.Equal(t, stranger, before.MAC)
			assert.Equal(t, backoff, time.Since(began))
			assert.Equal(t, since, b.record().Contested.Since)
			assert.Contains(t, string(b.consul.Get("p/.members/h1").Value), vip, "it stays a member")
		}
	})
}

// The next tenures remember the stranger for ten minutes.
func TestContestedIsForgotten(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		_ = next.release("done")
		h.stops("done")
		b.meet()
		h = b.hold()
		<-h.held
		synctest.Wait()
		require.NotNil(t, b.record().Contested)
		next = o.hold()
		time.Sleep(9 * time.Minute)
		h.stops("stopped")
		got := <-next.held
		require.NotNil(t, got.Contested, "another owner")
		time.Sleep(2 * time.Minute)
		_ = next.release("done")
		assert.Nil(t, b.record().Contested)
	})
}

// An operator's pin has the address tried at once.
func TestAPinOverridesTheBackoff(t *testing.T) {
	bubble(t, func(b *instance) {
		for range 8 {
			b.meet()
		}
		h := b.hold()
		time.Sleep(time.Second)
		require.Empty(t, h.held)
		b.consul.Put(pinKey, "h1", "")
		began := time.Now()
		<-h.held
		assert.Zero(t, time.Since(began))
		h.stops("done")
	})
}
