package lease

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/state"
)

// gather is how long the Client lets a take wait for others.
const gather = 2 * time.Millisecond

// lesser is ours for a member that is not as well placed.
var lesser = Lock{Name: vip, Priority: 200, Owner: `{"mac":"02:00:00:00:00:03"}`}

// session is the session of a member.
func (b *instance) session(node string) string { return b.consul.Get("p/.members/" + node).Session }

// finds tells the instance that the host of node is dead.
func (b *instance) finds(lock Lock, node string) {
	lock.Dead = b.session(node)
	b.contenders[lock.Name].Set(lock)
}

// cluster is h1, which holds the lock, h2, which is the best placed of the others, and
// h3.
type cluster struct {
	h1, h2, h3          *instance
	owner, second, last *hold
}

// trio runs test with a cluster.
func trio(t *testing.T, test func(c *cluster)) { trioLogging(t, hclog.NewNullLogger(), test) }

// trioLogging has h1 log.
func trioLogging(t *testing.T, log hclog.Logger, test func(c *cluster)) {
	bubbleLogging(t, log, func(b *instance) {
		c := &cluster{h1: b, owner: b.hold()}
		<-c.owner.held
		c.h2, c.h3 = b.node("h2"), b.node("h3")
		c.second, c.last = c.h2.holdLock(ours), c.h3.holdLock(lesser)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		test(c)
		_ = c.last.release("done")
		_ = c.second.release("done")
		require.NoError(t, c.h2.stop())
		require.NoError(t, c.h3.stop())
	})
}

func TestTakenByTheBestPlaced(t *testing.T) {
	trio(t, func(c *cluster) {
		c.h3.finds(lesser, "h1")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, c.owner.lost, "h3 is not the best placed")

		victim := c.h1.session("h1")
		began := time.Now()
		c.h2.finds(ours, "h1")
		got := <-c.second.held
		assert.Equal(t, gather, time.Since(began))
		assert.Equal(t, "h1", got.TookFrom)
		assert.True(t, got.Answered)
		assert.Equal(t, []state.Before{{Node: "h1", Owner: ours.Owner, TTL: "30s"}}, got.Before)
		assert.Equal(t, victim, got.Previous.Session)
		assert.Equal(t, began.Add(gather), c.h1.start.Add(<-c.owner.lost), "at once")

		err := c.owner.ends(Taken)
		require.NotErrorIs(t, err, ErrLockLost)
		require.EqualError(t, err, "taken over by h2: this host did not answer on the wire")
		assert.Contains(t, c.h1.consul.Sessions(), victim, "the session lives")
		time.Sleep(settleDelay)
		synctest.Wait()
		r := c.h1.record()
		assert.Equal(t, "h2", r.Node)
		assert.Equal(t, "h1", r.TookFrom, "also after the address was bound")
		assert.Equal(t, state.ReasonHostDead, r.Reason)
		assert.Empty(t, r.Before)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, c.second.lost)
	})
}

// A hold that was not taken tells that, and how long its write took.
func TestHowALockWasAcquired(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		h.stops("stopped")
		got := <-next.held
		assert.Zero(t, got.Committed, "it was transferred")
		synctest.Wait() // h1 is no member for it any more
		_ = next.release("stopped")
		b.consul.Delay(func(r *http.Request) {
			if r.URL.Path == "/v1/txn" {
				time.Sleep(20 * time.Millisecond)
			}
		})
		h = b.hold()
		got = <-h.held
		assert.Equal(t, 20*time.Millisecond, got.Committed)
		assert.Empty(t, got.TookFrom)
		assert.False(t, got.Answered)
		b.consul.Delay(nil)
		h.stops("done")
	})
}

// Nothing is taken if the host of another session is dead, or if this node must not have
// the lock.
func TestNotTaken(t *testing.T) {
	down := ours
	down.Ineligible = errors.New("the link is down")
	for name, prepare := range map[string]func(c *cluster) Lock{
		"another session":         func(*cluster) Lock { return Lock{Name: vip, Priority: 100, Dead: "another"} },
		"none":                    func(*cluster) Lock { return ours },
		"pinned elsewhere":        func(c *cluster) Lock { c.h1.consul.Put(pinKey, "h1", ""); return ours },
		"pinned to nobody's node": func(c *cluster) Lock { c.h1.consul.Put(pinKey, "h9", ""); return ours },
		"drained":                 func(c *cluster) Lock { c.h1.drain("h2"); return ours },
		"ineligible":              func(*cluster) Lock { return down },
		"not a member any more":   func(c *cluster) Lock { c.h2.keeper.Leave(); return ours },
		"another program's": func(c *cluster) Lock {
			c.h1.foreign()
			return Lock{Name: vip, Priority: 100, Dead: "foreign"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			trio(t, func(c *cluster) {
				lock := prepare(c)
				synctest.Wait()
				if lock.Dead == "" && name != "none" {
					lock.Dead = c.h1.session("h1")
				}
				c.h2.contenders[vip].Set(lock)
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.NotEqual(t, "h2", c.h1.record().Node)
				assert.Empty(t, c.second.held)
				c.h1.consul.Delete(pinKey)
				_ = c.owner.release("done")
			})
		})
	}
}

// The best placed member is dead as well, as another lock tells: the next one takes.
func TestTakenByASurvivor(t *testing.T) {
	trio(t, func(c *cluster) {
		other := Lock{Name: "10.77.0.101"}
		held := c.h2.holdLock(other)
		<-held.held
		c.h3.contender(other)
		c.h3.finds(lesser, "h1")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, c.last.held)
		c.h3.finds(other, "h2")
		c.h3.finds(lesser, "h1") // its contender has to look again
		<-c.last.held
		c.owner.ends(Taken)
		c.h3.contenders[other.Name].Set(other)
		assert.False(t, c.h3.keeper.contenders.isDead(c.h1.session("h2")))
		held.stops("done")
		c.h3.close(other.Name)
	})
}

// Two members take the lock at the same moment, because each knows something else of the
// other hosts. One of them gets it.
func TestTwoTakes(t *testing.T) {
	trio(t, func(c *cluster) {
		other := Lock{Name: "10.77.0.101"}
		held := c.h2.holdLock(other)
		<-held.held
		c.h3.contender(other)
		c.h3.finds(other, "h2")
		c.h3.finds(lesser, "h1")
		c.h2.finds(ours, "h1")
		synctest.Wait()
		time.Sleep(4 * time.Second)
		synctest.Wait()
		assert.Equal(t, 1, len(c.second.held)+len(c.last.held))
		assert.Equal(t, "h1", c.h1.record().TookFrom)
		c.owner.ends(Taken)
		c.h3.contenders[other.Name].Set(other)
		assert.Empty(t, c.second.lost)
		assert.Empty(t, c.last.lost)
		held.stops("done")
		c.h3.close(other.Name)
	})
}

// All locks of a host are taken in a few transactions, and are one setback.
func TestAHundredLocksAreTakenTogether(t *testing.T) {
	var out syncBuffer
	bubbleLogging(t, hclog.New(&hclog.LoggerOptions{Output: &out}), func(b *instance) {
		o := b.second()
		var held, next []*hold
		var locks []Lock
		for i := range 100 {
			lock := Lock{Name: fmt.Sprintf("10.78.0.%d", i), Priority: 100}
			locks = append(locks, lock)
			held = append(held, b.holdLock(lock))
		}
		for _, h := range held {
			<-h.held
		}
		for _, lock := range locks {
			next = append(next, o.holdLock(lock))
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		var transactions atomic.Int32
		b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
			if unlocks(r) {
				transactions.Add(1)
			}
			return false
		})
		began := time.Now()
		for _, lock := range locks {
			o.finds(lock, "h1")
		}
		for i, h := range next {
			assert.True(t, (<-h.held).Answered)
			held[i].ends(Taken)
		}
		assert.Less(t, time.Since(began), 100*time.Millisecond)
		assert.EqualValues(t, 3, transactions.Load())
		b.consul.On(nil)
		for _, h := range next {
			h.stops("done")
		}
		require.NoError(t, o.stop())
	})
	assert.Equal(t, 1, strings.Count(out.String(), "ranking last"), out.String())
	assert.Contains(t, out.String(), "for=10s")
}

// The dead owner had got the lock by a transfer, and had not written its record yet: the
// owner before it may still serve, too.
func TestTakenFromASuccessor(t *testing.T) {
	trio(t, func(c *cluster) {
		dead := "5e551011-dead"
		c.h1.consul.Begin(dead, sessionName)
		c.h1.consul.Put("p/.members/h9", `{"node":"h9","vips":{"`+vip+`":1}}`, dead)
		c.h1.consul.Put(lockKey, `{"state":"handover","from":"h1","node":"h9","mac":"02:00:00:00:00:01","session":"`+dead+`"}`, dead)
		c.owner.ends(Transferred)
		c.h2.finds(ours, "h9")
		got := <-c.second.held
		assert.Equal(t, "h9", got.TookFrom)
		require.Len(t, got.Before, 2)
		assert.Equal(t, "h9", got.Before[0].Node)
		assert.Equal(t, state.Before{Node: "h1", Owner: `{"mac":"02:00:00:00:00:01"}`}, got.Before[1])
	})
}

// An instance of an older version holds the lock: its record and its member key have
// none of the newest fields.
func TestTakenFromAnOlderInstance(t *testing.T) {
	bubble(t, func(b *instance) {
		older := "5e551011-01de"
		b.consul.Begin(older, sessionName)
		b.consul.Put("p/.members/h9", `{"node":"h9","session":"`+older+`","vips":{"`+vip+`":100},"version":"1"}`, older)
		b.consul.Put(lockKey, `{"state":"held","node":"h9","mac":"02:00:00:00:00:09","session":"`+older+`","ttl":"15s","version":"1"}`, older)
		h := b.hold()
		time.Sleep(5 * time.Second)
		require.Empty(t, h.held)
		b.finds(ours, "h9")
		got := <-h.held
		assert.Equal(t, []state.Before{{Node: "h9", Owner: `{"mac":"02:00:00:00:00:09"}`, TTL: "15s"}}, got.Before)
		assert.True(t, got.Answered)
		b.consul.Destroy(older)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, h.lost, "its session has nothing to do with the lock any more")
		h.stops("done")
	})
}
