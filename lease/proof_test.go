package lease

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
)

func TestGaps(t *testing.T) {
	var g gaps
	end, found := g.look(5 * time.Second)
	assert.Equal(t, 5*time.Second, end, "nobody looked before")
	assert.Positive(t, found)
	end, found = g.look(6250 * time.Millisecond)
	assert.Equal(t, 5*time.Second, end)
	assert.Zero(t, found)
	end, found = g.look(8 * time.Second)
	assert.Equal(t, 8*time.Second, end)
	assert.Equal(t, 1750*time.Millisecond, found)
	end, found = g.look(7 * time.Second)
	assert.Equal(t, 8*time.Second, end, "a goroutine that read the clock before the others")
	assert.Zero(t, found)
}

// After a pause nothing is certain until a consistent read that was sent after it.
// One read serves all locks.
func TestAPauseIsFollowedByARead(t *testing.T) {
	bubble(t, func(b *instance) {
		first, second := b.hold(), b.holdLock(Lock{Name: "10.77.0.101"})
		held, other := <-first.held, <-second.held
		synctest.Wait()
		require.True(t, held.Certain())
		lists := 0
		b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("consistent") {
				lists++
				time.Sleep(100 * time.Millisecond)
			}
			return false
		})
		b.asleep.Add(int64(2 * time.Second))
		require.False(t, held.Certain())
		require.False(t, other.Certain())
		changed := held.CertainChanged()
		began := time.Now()
		<-changed
		assert.Equal(t, 100*time.Millisecond, time.Since(began))
		synctest.Wait()
		assert.True(t, held.Certain())
		assert.True(t, other.Certain())
		assert.Equal(t, 1, lists)
		assert.Empty(t, first.lost)
		first.stops("done")
		second.stops("done")
	})
}

func TestAPauseInWhichTheLockWasLost(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		held := <-h.held
		b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("index") {
				<-r.Context().Done() // the watch hangs
				return true
			}
			return false
		})
		time.Sleep(5 * time.Second)
		b.consul.Put(lockKey, "", "other")
		b.asleep.Add(int64(2 * time.Second))
		require.False(t, held.Certain())
		require.ErrorContains(t, h.ends(LockLost), "session other holds it")
		b.consul.On(nil)
	})
}

// While Consul does not answer, nothing becomes certain and nothing is lost.
func TestAPauseWhileConsulIsSilent(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		held := <-h.held
		synctest.Wait()
		b.consul.On(simconsul.Answer(500, "text/plain", "No cluster leader"))
		b.asleep.Add(int64(2 * time.Second))
		require.False(t, held.Certain())
		ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Second, errors.New("enough"))
		defer cancel()
		require.EqualError(t, held.Confirm(ctx, held.Now()-time.Second), "enough")
		require.False(t, held.Certain())
		require.Empty(t, h.lost)
		b.consul.On(nil)
		began := time.Now()
		require.NoError(t, held.Confirm(context.Background(), held.Now()-time.Second))
		assert.LessOrEqual(t, time.Since(began), 200*time.Millisecond)
		h.stops("done")
	})
}

func TestConfirmAsksIfItMust(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		held := <-h.held
		synctest.Wait()
		reads := b.consul.Count("GET /v1/kv/p/")
		require.NoError(t, held.Confirm(context.Background(), held.Now()-time.Second))
		assert.Equal(t, reads, b.consul.Count("GET /v1/kv/p/"), "it was acquired just now")
		time.Sleep(2 * time.Second)
		require.NoError(t, held.Confirm(context.Background(), held.Now()-time.Second))
		assert.Greater(t, b.consul.Count("GET /v1/kv/p/"), reads)
		h.stops("done")
		require.Error(t, held.Confirm(context.Background(), held.Now()-time.Hour), "it is not held any more")
	})
}

// A restored snapshot shows another history, whose indexes are lower.
func TestARestoredSnapshotShowsALostLock(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Advance(100_000)
		h := b.hold()
		<-h.held
		synctest.Wait()
		session := b.consul.Get(lockKey).Session
		b.consul.Replace(20, session) // the snapshot has the session, but not the lock
		require.ErrorContains(t, h.ends(LockLost), "deleted")
	})
}
