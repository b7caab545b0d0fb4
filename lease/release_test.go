package lease

import (
	"bytes"
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
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	pinKey     = "p/10.77.0.100/pin"
	requestKey = "p/10.77.0.100/release"
)

// foreign puts the free lock under a session of another program, as `consul lock`
// does.
func (b *instance) foreign() {
	b.consul.Begin("foreign", "another program")
	b.consul.Put(lockKey, "", "foreign")
}

func TestReleaseRequestTransfers(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		began := time.Now()
		b.consul.Put(requestKey, "h1\n", "")
		got := <-next.held
		assert.Zero(t, time.Since(began))
		assert.Equal(t, state.RecordHandover, got.Previous.State)
		err := h.ends(Transferred)
		assert.ErrorContains(t, err, "requested")
		assert.Nil(t, b.consul.Get(requestKey))

		// The request takes effect once, and the previous owner contends again.
		again := b.hold()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, next.lost)
		next.stops("stopped")
		<-again.held
		again.stops("done")
	})
}

func TestReleaseRequestForAnotherNode(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		b.consul.Put(requestKey, "h2", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, h.lost)
		assert.NotNil(t, b.consul.Get(requestKey), "its writer withdraws it")
		b.consul.Delete(requestKey)
		_ = h.release("done")
	})
}

func TestReleaseRequestWithoutSuccessor(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		synctest.Wait()
		b.consul.Put(requestKey, "h1", "")
		h.ends(Released)
		began := time.Now()
		assert.Nil(t, b.consul.Get(requestKey))
		p := b.consul.Get(lockKey)
		assert.Empty(t, p.Session)
		assert.Equal(t, state.RecordReleased, state.ParseRecord(p.Value).State)
		assert.Contains(t, state.ParseRecord(p.Value).Reason, "requested")

		h = b.hold()
		time.Sleep(holdOffTime - time.Millisecond)
		synctest.Wait()
		assert.Empty(t, h.held)
		assert.NotContains(t, string(b.consul.Get("p/.members/h1").Value), vip, "the member entry does not offer it")
		<-h.held
		assert.Equal(t, holdOffTime, time.Since(began))
		synctest.Wait()
		assert.Contains(t, string(b.consul.Get("p/.members/h1").Value), vip)
		h.stops("done")
	})
}

func TestHoldOffLeavesTheLockToAnotherProgram(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		b.consul.Put(requestKey, "h1", "")
		h.ends(Released)
		h = b.hold()
		time.Sleep(3 * time.Second)
		b.foreign()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.held)
		b.consul.Destroy("foreign")
		ended := time.Now()
		<-h.held
		assert.Zero(t, time.Since(ended), "the hold-off has ended")
		h.stops("done")
	})
}

// A hold-off does not delay other members, and the node accepts a transfer during it.
func TestHoldOffDelaysNoOtherMember(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		b.consul.Put(requestKey, "h1", "")
		h.ends(Released)
		h = b.hold()
		o := b.second()
		high := ours
		high.Priority = 900
		next := o.holdLock(high)
		time.Sleep(5 * time.Second)
		require.Len(t, next.held, 1)

		// The transfer was sent before h1 began its hold-off.
		member := b.consul.Get("p/.members/h1").Session
		b.consul.Put(lockKey, `{"state":"handover","from":"h2","node":"h1","session":"`+member+`"}`, member)
		<-h.held
		end := <-next.result
		require.Contains(t, []Kind{Transferred, LockLost}, end.Kind, "it may only see what h1 makes of it")
		synctest.Wait()
		assert.Contains(t, string(b.consul.Get("p/.members/h1").Value), vip)
		h.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestReleaseRequestWaitsUntilItIsServed(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Put(requestKey, "h1", "")
		h := b.hold()
		h.ends(Released) // "the request was written before the lock was held")
		assert.Equal(t, state.RecordReleased, b.record().State)
	})
}

func TestRequestIsWithdrawn(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		// Its writer deletes it after the State that shows it, and before it is accepted.
		var claims atomic.Int32
		b.consul.On(simconsul.Only("/v1/txn", func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(body(r), requestKey) && claims.Add(1) == 1 {
				b.consul.Delete(requestKey)
			}
			return false
		}))
		b.consul.Put(requestKey, "h1", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, int32(1), claims.Load())
		assert.Empty(t, h.lost)

		// Its writer changes it in between: only the later request counts.
		claims.Store(0)
		b.consul.On(simconsul.Only("/v1/txn", func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(body(r), requestKey) && claims.Add(1) == 1 {
				b.consul.Delete(requestKey) // a write of the same value alone changes nothing
				b.consul.Put(requestKey, "h1", "")
			}
			return false
		}))
		b.consul.Put(requestKey, "h1", "")
		<-next.held
		assert.Equal(t, int32(2), claims.Load())
		h.ends(Transferred)
		b.consul.On(nil)
	})
}

func TestAcceptWithoutAnAnswer(t *testing.T) {
	for name, happened := range map[string]bool{"it happened": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
				var claims atomic.Int32
				b.consul.On(simconsul.Only("/v1/txn", func(_ http.ResponseWriter, r *http.Request) bool {
					if strings.Contains(body(r), requestKey) && claims.Add(1) == 1 {
						if happened {
							b.consul.Serve(r)
						}
						panic(http.ErrAbortHandler)
					}
					return false
				}))
				b.consul.Put(requestKey, "h1", "")
				time.Sleep(time.Minute)
				synctest.Wait()
				b.consul.On(nil)
				assert.Nil(t, b.consul.Get(requestKey))
				if happened {
					assert.Empty(t, h.lost, "the operator may have given up")
					_ = h.release("done")
					return
				}
				require.Len(t, next.held, 1)
				h.ends(Transferred)
			})
		})
	}
}

func TestReleaseRequestAlthoughTheTransferIsRefused(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		b.consul.On(simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			if text := body(r); strings.Contains(text, `"Verb":"lock"`) && strings.Contains(text, `"Verb":"unlock"`) {
				return simconsul.Answer(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"invalid session"}]}`)(w, r)
			}
			return false
		}))
		b.consul.Put(requestKey, "h1", "")
		h.ends(Released)
		got := <-next.held
		assert.Equal(t, state.RecordReleased, got.Previous.State)
		b.consul.On(nil)
	})
}

func TestPinnedToNobody(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		before := time.Now()
		b.consul.Put(pinKey, "-\n", "")
		err := h.ends(Released)
		assert.Zero(t, time.Since(before))
		assert.Equal(t, state.RecordReleased, b.record().State)
		assert.Equal(t, err.Error(), b.record().Reason)
		assert.Empty(t, b.consul.Get(lockKey).Session)

		h = b.hold()
		time.Sleep(time.Minute)
		b.foreign()
		time.Sleep(time.Minute)
		b.consul.Destroy("foreign")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.held)
		require.Empty(t, next.held)

		b.consul.Delete(pinKey)
		unpinned := time.Now()
		select {
		case <-h.held:
		case <-next.held:
		}
		assert.LessOrEqual(t, time.Since(unpinned), positionDelay)
		_ = h.release("done")
	})
}

// The record of a lock that is not served yet still describes the previous owner.
func TestPinnedToNobodyBeforeItIsServed(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Put(lockKey, `{"state":"held","node":"h2","mac":"02:00:00:00:00:02"}`, "")
		asking, ended := b.holdUnserved()
		<-asking
		b.consul.Put(pinKey, state.Nobody, "")
		require.Equal(t, Released, (<-ended).Kind)
		assert.Empty(t, b.consul.Get(lockKey).Session)
		assert.Equal(t, state.RecordHeld, b.record().State)
		assert.Equal(t, "h2", b.record().Node)
	})
}

func TestUncleanReleaseOnRequest(t *testing.T) {
	bubble(t, func(b *instance) {
		served, ended := b.holdUntil(Left{Unclean: true})
		<-served
		b.consul.Put(pinKey, state.Nobody, "")
		require.False(t, (<-ended).Clean)
		assert.Empty(t, b.consul.Get(lockKey).Session)
		assert.Equal(t, state.RecordHeld, b.record().State)
	})
}

func TestIneligibilityIsLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	c := waiting{Contender: &Contender{log: hclog.New(&hclog.LoggerOptions{Output: &out})}}
	for range 3 {
		c.logIneligible(state.ErrDrained, 0)
	}
	c.logIneligible(nil, 0)
	c.logIneligible(nil, 0)
	c.logIneligible(state.ErrNobody, 0)
	assert.Equal(t, 1, strings.Count(out.String(), state.ErrDrained.Error()))
	assert.Equal(t, 1, strings.Count(out.String(), "again"))
	assert.Equal(t, 1, strings.Count(out.String(), state.ErrNobody.Error()))
}
