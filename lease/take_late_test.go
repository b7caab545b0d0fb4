package lease

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// A take is carried out although its connection breaks before the answer, or long after.
func TestATakeWhoseAnswerIsLost(t *testing.T) {
	for name, late := range map[string]time.Duration{"at once": 0, "late": takePause / 2} {
		t.Run(name, func(t *testing.T) {
			trio(t, func(c *cluster) {
				arrive := c.h1.detain()
				began := time.Now()
				c.h2.finds(ours, "h1")
				time.Sleep(gather + late)
				synctest.Wait()
				require.Empty(t, c.owner.lost)
				arrive()
				got := <-c.second.held
				assert.Equal(t, gather+late, time.Since(began))
				assert.Equal(t, "h1", got.TookFrom)
				assert.False(t, got.Answered)
				assert.Equal(t, []state.Before{{Node: "h1", Owner: ours.Owner, TTL: "30s"}}, got.Before, "nobody unknown")
				assert.Equal(t, gather+late, got.Committed)
				c.owner.ends(Taken)
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Empty(t, c.second.lost)
				assert.Equal(t, "h1", c.h1.record().TookFrom)
				assert.Empty(t, c.h1.record().Before)
			})
		})
	}
}

// A take hangs in Consul, which has carried it out.
func TestATakeThatHangs(t *testing.T) {
	trio(t, func(c *cluster) {
		var taken atomic.Bool
		c.h1.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
			if unlocks(r) && !taken.Swap(true) {
				c.h1.consul.Serve(r)
				return c.h1.consul.OrHang(nil)(nil, nil)
			}
			return false
		})
		began := time.Now()
		c.h2.finds(ours, "h1")
		got := <-c.second.held
		assert.Equal(t, gather+consul.TakeTry, time.Since(began))
		assert.False(t, got.Answered)
		assert.Len(t, got.Before, 1)
		c.owner.ends(Taken)
	})
}

// Our own record of a take in a restored snapshot proves nothing about the owners since,
// but still tells the victim.
func TestATakeInARestoredSnapshot(t *testing.T) {
	trio(t, func(c *cluster) {
		c.h2.finds(ours, "h1")
		<-c.second.held
		synctest.Wait()
		snapshot := c.h1.consul.Get(lockKey)
		c.owner.ends(Taken)
		c.h2.contenders[vip].Set(ours)
		c.h1.consul.Put("p/10.77.0.100/release", "h2", "")
		<-c.last.held
		c.second.ends(Transferred)
		c.second = c.h2.holdLock(ours)
		c.h1.consul.Put(lockKey, string(snapshot.Value), snapshot.Session)
		c.last.ends(LockLost)
		got := <-c.second.held
		assert.Equal(t, "h1", got.TookFrom)
		assert.False(t, got.Answered)
		assert.Contains(t, got.Before, state.Before{}, "somebody unknown")
		synctest.Wait()
		assert.Equal(t, "h1", c.h1.record().TookFrom)
	})
}

// The key changes right before the take arrives. It is read anew, and taken then.
func TestATakeIsRefusedBecauseTheIndexMoved(t *testing.T) {
	trio(t, func(c *cluster) {
		victim := c.h1.session("h1")
		var refused atomic.Int32
		c.h1.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
			if unlocks(r) && refused.Add(1) <= 3 {
				record := c.h1.record()
				record.Version = fmt.Sprint(refused.Load())
				c.h1.consul.Put(lockKey, string(record.Encode()), victim)
			}
			return false
		})
		began := time.Now()
		c.h2.finds(ours, "h1")
		got := <-c.second.held
		assert.Less(t, time.Since(began), 200*time.Millisecond)
		assert.True(t, got.Answered)
		assert.Equal(t, "3", got.Previous.Version)
		c.owner.ends(Taken)
	})
}

// While Consul refuses everything, tries are few; once the host answers again there are
// none.
func TestATakeIsGivenUp(t *testing.T) {
	trio(t, func(c *cluster) {
		var tries atomic.Int32
		c.h1.consul.On(simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			if !unlocks(r) {
				return false
			}
			tries.Add(1)
			return simconsul.Answer(500, "text/plain", "No cluster leader")(w, r)
		}))
		c.h2.finds(ours, "h1")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.InDelta(t, 10, tries.Load(), 2)
		c.h2.contenders[vip].Set(ours)
		c.h1.consul.On(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, c.owner.lost)
		c.owner.stops("done")
	})
}

// The host that died is that of Consul's leader. Whatever was on its way to it hangs, in
// both slots for writes; the take passes soon after there is another leader.
func TestATakeDuringAnElection(t *testing.T) {
	const election = 2300 * time.Millisecond
	for name, fails := range map[string]func(*simconsul.Consul){
		"frozen": func(f *simconsul.Consul) { f.FreezeLeader(election, 5*time.Minute) },
		"killed": func(f *simconsul.Consul) { f.KillLeader(election) },
	} {
		t.Run(name, func(t *testing.T) {
			trio(t, func(c *cluster) {
				began := time.Now()
				fails(c.h1.consul)
				for i := range 2 {
					go func() { _, _ = c.h2.keeper.consul.Commit(context.Background(), consul.Set(fmt.Sprint("x/", i), nil)) }()
					synctest.Wait()
				}
				time.Sleep(200 * time.Millisecond)
				c.h2.finds(ours, "h1")
				<-c.second.held
				took := time.Since(began)
				assert.Greater(t, took, election)
				assert.Less(t, took, election+consul.TakeTry+takePause)
				c.owner.ends(Taken)
			})
		})
	}
}
