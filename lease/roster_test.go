package lease

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// priority is what the member key of node says about the lock.
func (b *bench) priority(node string) int {
	v := newView("p", api.KVPairs{b.consul.get("p/.members/" + node)}, 1)
	return v.members[node].VIPs[vip]
}

func TestPrioritizeMovesTheRanks(t *testing.T) {
	eager, second := ours, ours
	eager.PreemptDelay, second.PreemptDelay = 10*time.Second, 10*time.Second
	second.Priority = 101
	bubble(t, func(b *bench) {
		h := b.holdLock(eager)
		<-h.held
		o := b.second()
		next := o.holdLock(second)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, next.held)
		assert.Equal(t, 2, b.keeper.Prioritize(2))
		synctest.Wait()
		assert.Equal(t, 102, b.priority("h1"))
		assert.Equal(t, 101, b.priority("h2"))
		began := time.Now()
		<-next.held
		assert.Equal(t, eager.PreemptDelay, time.Since(began))
		require.ErrorIs(t, <-h.result, ErrHandedOver)

		again := b.holdLock(eager)
		assert.Equal(t, 0, b.keeper.Prioritize(-2))
		began = time.Now()
		<-again.held
		assert.Equal(t, eager.PreemptDelay, time.Since(began))
		require.ErrorIs(t, <-next.result, ErrHandedOver)
		require.NoError(t, again.release("done"))
		require.NoError(t, o.stop())
	})
}

func TestPrioritiesStayInRange(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		for _, step := range []struct{ delta, offset, effective int }{
			{-99, -99, 1}, {-1, -100, 0}, {-1, -101, 0}, {2, -99, 1},
			{math.MaxInt, 1000, 1000}, {-100, 900, 1000}, {-1, 899, 999}, {math.MinInt, -1000, 0},
		} {
			assert.Equal(t, step.offset, b.keeper.Prioritize(step.delta))
			synctest.Wait()
			assert.Equal(t, step.effective, b.priority("h1"))
		}
		require.NoError(t, h.release("done"))
	})
}

func TestUpdateDoesNotTouchTheHold(t *testing.T) {
	pair(t, ours, func(b, o *bench, h, next *hold, _ *Held) {
		before := b.consul.get(lockKey).ModifyIndex
		changed := ours
		changed.Priority, changed.PreemptDelay = 200, 30*time.Second
		changed.Owner.MAC = "02:00:00:00:00:99"
		assert.True(t, b.keeper.Update(changed))
		assert.False(t, b.keeper.Update(Lock{Name: "10.77.0.199", Priority: 1}))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		assert.Equal(t, 200, b.priority("h1"))
		assert.NotContains(t, string(b.consul.get("p/.members/h1").Value), "10.77.0.199")
		assert.Empty(t, h.lost)
		assert.Equal(t, before, b.consul.get(lockKey).ModifyIndex, "the lock was not written to")

		// A delay that changes counts from when it began; none at all stays.
		changed.PreemptDelay = 0
		b.keeper.Update(changed)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, h.lost)
		changed.PreemptDelay = time.Hour
		b.keeper.Update(changed)
		began := time.Now()
		time.Sleep(20 * time.Second)
		changed.PreemptDelay = 30 * time.Second
		b.keeper.Update(changed)
		got := <-next.held
		assert.Equal(t, 30*time.Second, time.Since(began))
		assert.Equal(t, "02:00:00:00:00:99", got.Predecessor.MAC)
		require.ErrorIs(t, <-h.result, ErrHandedOver)
	})
}

func TestUpdateWhileContending(t *testing.T) {
	bubble(t, func(b *bench) {
		b.foreign()
		h := b.hold()
		time.Sleep(5 * time.Second)
		changed := ours
		changed.Priority = 7
		changed.Owner.Interface = "eth1"
		b.keeper.Update(changed)
		time.Sleep(time.Second)
		assert.Equal(t, 7, b.priority("h1"))
		b.consul.destroy("foreign")
		<-h.held
		assert.Equal(t, "eth1", b.record().Interface)
		require.NoError(t, h.release("done"))
	})
}
