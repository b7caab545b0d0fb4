package lease

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/state"
)

// priority is the priority for the lock in the member key of node.
func (b *instance) priority(node string) int {
	v := state.New(b.keeper.keys, api.KVPairs{b.consul.Get("p/.members/" + node)}, 1)
	return v.Members[node].VIPs[vip]
}

func TestPrioritizeChangesThePosition(t *testing.T) {
	eager, second := ours, ours
	eager.PreemptDelay, second.PreemptDelay = 10*time.Second, 10*time.Second
	second.Priority = 101
	bubble(t, func(b *instance) {
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
		h.ends(Transferred)

		again := b.holdLock(eager)
		assert.Equal(t, 0, b.keeper.Prioritize(-2))
		began = time.Now()
		<-again.held
		assert.Equal(t, eager.PreemptDelay, time.Since(began))
		next.ends(Transferred)
		again.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestPrioritiesStayInRange(t *testing.T) {
	bubble(t, func(b *instance) {
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
		h.stops("done")
	})
}

// The others read what this process says about itself.
func TestDescribe(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		o := b.second()
		_, changed := o.keeper.State()
		<-changed
		for _, owner := range []state.Owner{`{"links":[{"interface":"eth0"}]}`, `{"links":[]}`, ""} {
			b.keeper.Describe(owner)
			synctest.Wait()
			s, _ := o.keeper.State()
			assert.Equal(t, owner, s.Members["h1"].Owner)
			assert.Equal(t, map[string]int{vip: 100}, s.Members["h1"].VIPs)
		}
		before := b.consul.Get("p/.members/h1").ModifyIndex
		b.keeper.Describe("")
		synctest.Wait()
		assert.Equal(t, before, b.consul.Get("p/.members/h1").ModifyIndex, "nothing has changed")
		h.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestSetDoesNotTouchTheHold(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		changed := ours
		changed.Priority, changed.PreemptDelay = 200, 30*time.Second
		changed.Owner = `{"mac":"02:00:00:00:00:99"}`
		c := b.contenders[vip]
		c.Set(changed)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		assert.Equal(t, 200, b.priority("h1"))
		assert.Empty(t, h.lost)
		assert.Equal(t, changed.Owner, b.record().Owner, "the next owner must know whom to ask")
		before := b.consul.Get(lockKey).ModifyIndex

		// A changed delay counts from the start of the wait; with none the owner stays.
		changed.PreemptDelay = 0
		c.Set(changed)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, h.lost)
		assert.Equal(t, before, b.consul.Get(lockKey).ModifyIndex, "the lock was not written to")
		changed.PreemptDelay = time.Hour
		c.Set(changed)
		began := time.Now()
		time.Sleep(20 * time.Second)
		changed.PreemptDelay = 30 * time.Second
		c.Set(changed)
		got := <-next.held
		assert.Equal(t, 30*time.Second, time.Since(began))
		assert.Equal(t, changed.Owner, got.Previous.Owner)
		h.ends(Transferred)
	})
}

func TestSetWhileContending(t *testing.T) {
	bubble(t, func(b *instance) {
		b.foreign()
		h := b.hold()
		time.Sleep(5 * time.Second)
		changed := ours
		changed.Priority = 7
		changed.Owner = `{"interface":"eth1"}`
		b.contenders[vip].Set(changed)
		time.Sleep(time.Second)
		assert.Equal(t, 7, b.priority("h1"))
		b.consul.Destroy("foreign")
		<-h.held
		assert.Equal(t, changed.Owner, b.record().Owner)
		h.stops("done")
	})
}

func TestIneligibleLeavesTheMembers(t *testing.T) {
	down := ours
	down.Ineligible = errors.New("the link is down")
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		o.contenders[vip].Set(down)
		synctest.Wait()
		assert.Contains(t, string(b.consul.Get("p/.members/h2").Value), `"vips":{},"ineligible":{"the link is down":["10.77.0.100"]}`)
		b.drain("h1")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.lost, "nobody else can take it")
		b.undrain("h1")
		_ = h.release("stopped")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, next.held)
		o.contenders[vip].Set(ours)
		began := time.Now()
		<-next.held
		assert.Zero(t, time.Since(began))
	})
}
