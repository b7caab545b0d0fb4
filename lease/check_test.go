package lease

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/internal/simconsul"
)

const (
	refresh  = "/v1/agent/check/update/"
	register = "/v1/agent/service/register"
)

// refreshes runs test with an owner and a function that counts the tries to refresh
// its check since the last call.
func refreshes(t *testing.T, test func(b *instance, tries func() int)) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		last := 0
		tries := func() int {
			synctest.Wait()
			all := b.consul.Count("PUT " + refresh)
			defer func() { last = all }()
			return all - last
		}
		tries()
		test(b, tries)
		require.Empty(t, h.lost)
		h.stops("done")
	})
}

func TestCheckIsRefreshedTwiceASecond(t *testing.T) {
	refreshes(t, func(_ *instance, tries func() int) {
		time.Sleep(time.Minute)
		assert.InDelta(t, 120, tries(), 1)
	})
}

// An agent that starts must find the check passed before it tells the servers.
func TestCheckIsRetriedSoon(t *testing.T) {
	refreshes(t, func(b *instance, tries func() int) {
		b.consul.On(simconsul.Only(refresh, func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }))
		time.Sleep(time.Second) // until the first refresh has failed
		tries()
		time.Sleep(time.Minute)
		n := tries()
		assert.GreaterOrEqual(t, n, 600, "at least every 100 ms, however long it takes")
		assert.LessOrEqual(t, n, 1200, "at most every 50 ms")
		b.consul.On(nil)
		time.Sleep(100 * time.Millisecond)
		assert.Equal(t, 1, tries(), "a success ends it")
	})
}

func TestAnAgentThatHangsDoesNotDelayTheNextTry(t *testing.T) {
	refreshes(t, func(b *instance, tries func() int) {
		b.consul.On(simconsul.Only(refresh, b.consul.OrHang(nil)))
		time.Sleep(10 * time.Second)
		assert.GreaterOrEqual(t, tries(), 8)
		b.consul.On(nil)
		time.Sleep(1100 * time.Millisecond)
		tries()
		time.Sleep(time.Second)
		assert.InDelta(t, 2, tries(), 1)
	})
}

func TestAnAgentThatRefusesIsNotAskedFasterForLong(t *testing.T) {
	refreshes(t, func(b *instance, tries func() int) {
		b.consul.On(simconsul.Only(refresh, simconsul.Answer(403, "text/plain", "Permission denied")))
		time.Sleep(2 * time.Second)
		assert.Greater(t, tries(), 10)
		time.Sleep(5 * time.Second)
		tries()
		time.Sleep(time.Minute)
		assert.InDelta(t, 120, tries(), 1)
	})
}

// An agent that starts tells the servers of an expired check some 30 ms after it begins
// to listen.
func TestAnAgentThatDoesNotListenIsTriedAtOnce(t *testing.T) {
	k := &Keeper{cfg: Config{CheckTTL: 3 * time.Second}}
	refused := fmt.Errorf("refreshing: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.ECONNREFUSED)})
	for range 100 {
		assert.LessOrEqual(t, k.checkPause(refused, time.Second), awaitRetry)
		assert.Greater(t, k.checkPause(refused, time.Minute), awaitRetry, "it is away for good")
		assert.Greater(t, k.checkPause(context.DeadlineExceeded, time.Second), awaitRetry, "a try that takes a while")
	}
}

func TestAnAgentThatLostItsStateLearnsOfTheServiceAtOnce(t *testing.T) {
	refreshes(t, func(b *instance, tries func() int) {
		before := b.consul.Count("PUT " + register)
		unknown := simconsul.Only(refresh, simconsul.Answer(404, "text/plain", "Unknown check ID"))
		b.consul.On(func(w http.ResponseWriter, r *http.Request) bool {
			if b.consul.Count("PUT "+register) == before {
				return unknown(w, r)
			}
			return false
		})
		time.Sleep(600 * time.Millisecond)
		assert.Equal(t, before+1, b.consul.Count("PUT "+register))
		assert.LessOrEqual(t, tries(), 3)
	})
}
