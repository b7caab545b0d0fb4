package lease

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

func TestHoldWritesAndReleasesTheRecord(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		held := <-h.held
		p := b.consul.Get(lockKey)
		assert.EqualValues(t, api.LockFlagValue, p.Flags)
		r := b.record()
		assert.Equal(t, state.RecordHeld, r.State)
		assert.Equal(t, "h1", r.Node)
		assert.Equal(t, ours.Owner, r.Owner)
		assert.Equal(t, p.Session, r.Session)
		assert.Equal(t, "30s", r.TTL)
		assert.NotNil(t, r.Since)
		assert.Equal(t, state.RecordUnknown, held.Previous.State)

		h.stops("stopped by a test")
		p, r = b.consul.Get(lockKey), b.record()
		assert.Empty(t, p.Session)
		assert.EqualValues(t, api.LockFlagValue, p.Flags, "`consul lock` refuses a key without the flag")
		assert.Equal(t, state.RecordReleased, r.State)
		assert.Equal(t, "stopped by a test", r.Reason)

		synctest.Wait()
		require.NotNil(t, b.consul.Get("p/.members/h1"))
		require.NoError(t, b.stop())
		assert.Empty(t, b.consul.Sessions())
		assert.Nil(t, b.consul.Get("p/.members/h1"))
		assert.Equal(t, 1, b.consul.Count("PUT /v1/agent/service/deregister/s-h1"))
	})
}

func TestOnlyACleanEndIsReleased(t *testing.T) {
	dead := state.Record{State: state.RecordHeld, Node: "h2", Owner: `{"mac":"02:00:00:00:00:02"}`, TTL: "15s"}
	left := state.Record{State: state.RecordReleased, Node: "h2", Reason: "stopped"}
	over := Left{Reason: errors.New("over")}
	unclean := Left{Reason: errors.New("the kernel refused"), Unclean: true}
	tests := map[string]struct {
		last   state.Record
		serves bool
		left   Left
		state  state.RecordState
		node   string
		owner  state.Owner
	}{
		"served, clean":                         {dead, true, over, state.RecordReleased, "h1", ""},
		"served, unclean":                       {dead, true, unclean, state.RecordHeld, "h1", ours.Owner},
		"never served, previous owner dead":     {dead, false, over, state.RecordHeld, "h2", dead.Owner},
		"never served, previous owner released": {left, false, over, state.RecordReleased, "h2", ""},
		"never served, no record":               {state.Record{}, false, over, state.RecordHeld, "h1", ours.Owner},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *instance) {
				b.consul.Put(lockKey, string(test.last.Encode()), "")
				end := b.run(ours, func(_ context.Context, held *Held) Left {
					if test.serves {
						held.Bound()
					}
					return test.left
				})
				require.Equal(t, End{Kind: SteppedDown, Reason: test.left.Reason, Clean: !test.left.Unclean}, end)
				assert.Empty(t, b.consul.Get(lockKey).Session)
				r := b.record()
				assert.Equal(t, test.state, r.State)
				assert.Equal(t, test.node, r.Node)
				assert.Equal(t, test.owner, r.Owner)
			})
		})
	}
}

func TestLosingTheLock(t *testing.T) {
	tests := map[string]struct {
		lose func(b *instance, session string)
		kind Kind
		want error
		text string
	}{
		"session destroyed": {func(b *instance, s string) { b.consul.Destroy(s) }, SessionLost, ErrSessionLost, "no such session"},
		"key deleted":       {func(b *instance, _ string) { b.consul.Delete(lockKey) }, LockLost, ErrLockLost, "deleted"},
		"key overwritten":   {func(b *instance, _ string) { b.consul.Put(lockKey, "mine", "") }, LockLost, ErrLockLost, "overwritten"},
		"key taken":         {func(b *instance, _ string) { b.consul.Put(lockKey, "", "other") }, LockLost, ErrLockLost, "session other holds it"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *instance) {
				h := b.hold()
				<-h.held
				time.Sleep(10*time.Second + 500*time.Millisecond)
				before := time.Since(b.start)
				test.lose(b, b.consul.Get(lockKey).Session)
				assert.Equal(t, before, <-h.lost, "without any delay")
				err := h.ends(test.kind)
				require.ErrorIs(t, err, test.want)
				assert.ErrorContains(t, err, test.text)
			})
		})
	}
}

func TestOverwrittenKeyIsReleased(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		b.consul.Put(lockKey, "mine", "")
		h.ends(LockLost)
		assert.Empty(t, b.consul.Get(lockKey).Session)
	})
}

func TestAcquisitionWithoutAnAnswer(t *testing.T) {
	for name, happened := range map[string]bool{"it happened": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *instance) {
				var once sync.Once
				var reads int
				count := func(r *http.Request) {
					if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, lockKey) {
						assert.Contains(t, r.URL.RawQuery, "consistent")
						reads++
					}
				}
				// The first acquisition gets no answer, whether it was written or not.
				acquisition := simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
					body, _ := io.ReadAll(r.Body)
					r.Body = io.NopCloser(strings.NewReader(string(body)))
					cut := false
					if strings.Contains(string(body), lockKey) {
						once.Do(func() { cut = true })
					}
					if cut {
						if happened {
							b.consul.Serve(r)
						}
						panic(http.ErrAbortHandler)
					}
					return false
				})
				b.consul.On(func(w http.ResponseWriter, r *http.Request) bool {
					count(r)
					return acquisition(w, r)
				})
				h := b.hold()
				held := <-h.held
				assert.Equal(t, state.RecordUnknown, held.Previous.State)
				assert.Equal(t, 1, reads, "a write without an answer is read back")
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Empty(t, h.lost)
				h.stops("done")
			})
		})
	}
}

func TestPreviousOwner(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Begin("other", "another program")
		b.consul.Put(lockKey, `{"state":"held","node":"h2","mac":"02:00:00:00:00:02","ttl":"15s"}`, "other")
		h := b.hold()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.held)
		b.consul.Destroy("other")
		held := <-h.held
		assert.Equal(t, state.RecordHeld, held.Previous.State)
		assert.JSONEq(t, `{"mac":"02:00:00:00:00:02"}`, string(held.Previous.Owner))
		assert.Equal(t, 15*time.Second, held.Before[0].OwnerTTL(ttl))
		h.stops("done")
	})
}

func TestContendsAgainAfterRelease(t *testing.T) {
	bubble(t, func(b *instance) {
		for range 3 {
			h := b.hold()
			held := <-h.held
			synctest.Wait()
			require.Empty(t, h.lost, "a State from before the release does not count")
			require.NoError(t, held.Confirm(context.Background(), held.Now()-time.Millisecond))
			h.stops("again")
			require.Error(t, held.Confirm(context.Background(), held.Now()))
		}
	})
}

func TestLockDelayOfAForeignSession(t *testing.T) {
	bubble(t, func(b *instance) {
		delayed := time.Now().Add(15 * time.Second)
		b.consul.On(simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if strings.Contains(string(body), lockKey) && time.Now().Before(delayed) {
				return simconsul.Answer(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"failed to lock key due to lock delay"}]}`)(w, r)
			}
			return false
		}))
		h := b.hold()
		<-h.held
		assert.WithinRange(t, time.Now(), delayed, delayed.Add(2*time.Second))
		h.stops("done")
	})
}

// Knowledge of a lock is as old as the request that asked for it: the process
// may have been paused before it read the answer.
func TestAnAnswerProvesTheTimeOfItsRequest(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Delay(func(r *http.Request) {
			if r.URL.Path == "/v1/txn" {
				time.Sleep(3 * time.Second)
			}
		})
		h := b.hold()
		held := <-h.held
		known, _ := held.known.Get()
		assert.GreaterOrEqual(t, held.Now()-known, 3*time.Second)
		require.NoError(t, held.Confirm(context.Background(), held.Now()-time.Second))
		known, _ = held.known.Get()
		assert.LessOrEqual(t, held.Now()-known, time.Second)
		b.consul.Delay(nil)
		time.Sleep(4 * time.Second) // for the answers that are still on their way
		h.stops("done")
	})
}
