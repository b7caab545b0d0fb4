package lease

import (
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
