package lease

import (
	"context"
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

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/consul"
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

// A lock that was taken is not taken again at once, by a host that hears nobody for example.
func TestATakenLockIsSafe(t *testing.T) {
	trio(t, func(c *cluster) {
		began := time.Now()
		c.h2.finds(ours, "h1")
		<-c.second.held
		c.owner.ends(Taken)
		c.h3.finds(lesser, "h2")
		got := <-c.last.held
		assert.Equal(t, takenFor+2*gather, time.Since(began), "from when h3 saw the record")
		assert.Equal(t, "h2", got.TookFrom)
		c.second.ends(Taken)
		c.second = c.h2.holdLock(ours)
		again := c.h1.hold()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, c.last.lost)
		_ = again.release("done")
	})
}

// unlocked counts the transactions with an unlock from now on.
func (b *instance) unlocked() func() int32 {
	var n atomic.Int32
	b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && unlocks(r) {
			n.Add(1)
		}
		return false
	})
	return n.Load
}

// A victim ranks last and takes nothing, but it is a member and may be the successor.
func TestAVictim(t *testing.T) {
	var out syncBuffer
	trioLogging(t, hclog.New(&hclog.LoggerOptions{Output: &out}), func(c *cluster) {
		began := time.Now()
		c.h2.finds(ours, "h1")
		<-c.second.held
		c.owner.ends(Taken)
		c.owner = c.h1.hold()
		synctest.Wait()
		assert.Equal(t, 1101, c.h1.priority("h1"))
		assert.Equal(t, 1, strings.Count(out.String(), "ranking last"))

		c.h1.finds(ours, "h2")
		unlocked := c.h1.unlocked()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		assert.Zero(t, unlocked(), "it makes no takes")
		assert.Empty(t, c.second.lost)
		c.h1.contenders[vip].Set(ours)

		// h3 is better placed than the victim, whatever their priorities.
		c.second.stops("stopped")
		<-c.last.held
		assert.Less(t, time.Since(began), 10*time.Second)
		c.second = c.h2.holdLock(ours)
		_ = c.second.release("done")
		// The victim is the only one.
		c.last.stops("stopped")
		<-c.owner.held
		assert.Equal(t, 1101, c.h1.priority("h1"))
		c.last = c.h3.holdLock(lesser)

		time.Sleep(time.Until(began.Add(10*time.Second + gather)))
		synctest.Wait()
		assert.Equal(t, 100, c.h1.priority("h1"))
		assert.Equal(t, 1, strings.Count(out.String(), "ranking by priority again"))
		_ = c.owner.release("done")
	})
}

// After its setback a victim takes again.
func TestAVictimTakesAfterItsSetback(t *testing.T) {
	trio(t, func(c *cluster) {
		began := time.Now()
		c.h2.finds(ours, "h1")
		<-c.second.held
		c.owner.ends(Taken)
		c.owner = c.h1.hold()
		synctest.Wait()
		c.h1.finds(ours, "h2")
		got := <-c.owner.held
		assert.Equal(t, "h2", got.TookFrom)
		assert.GreaterOrEqual(t, time.Since(began), firstSetback)
		assert.Less(t, time.Since(began), firstSetback+time.Second)
		c.second.ends(Taken)
		c.second = c.h2.holdLock(ours)
		_ = c.owner.release("done")
	})
}

func TestTakenSighting(t *testing.T) {
	first, second := time.Unix(1, 0), time.Unix(2, 0)
	taken := func(session string, since *time.Time) state.Record {
		return state.Record{State: state.RecordHeld, Session: session, Since: since, TookFrom: "h1"}
	}
	var s takenSighting
	assert.Zero(t, s.see(state.Record{State: state.RecordHeld, Session: "s2"}, time.Hour))
	assert.Equal(t, takenFor, s.see(taken("s2", &first), time.Hour))
	bound := taken("s2", &first)
	bound.Version = "written again"
	assert.Equal(t, takenFor-time.Second, s.see(bound, time.Hour+time.Second))
	assert.Negative(t, s.see(bound, 2*time.Hour))
	assert.Equal(t, takenFor, s.see(taken("s2", &second), 2*time.Hour), "once more")
	assert.Equal(t, takenFor, s.see(taken("s3", &second), 2*time.Hour))
	assert.Equal(t, takenFor, s.see(taken("s4", nil), 2*time.Hour))
}
