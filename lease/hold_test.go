package lease

import (
	"context"
	"errors"
	"fmt"
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
)

func TestHoldWritesRecordsAndTakesLeave(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		held := <-h.held
		p := b.consul.get(lockKey)
		assert.EqualValues(t, api.LockFlagValue, p.Flags)
		r := b.record()
		assert.Equal(t, StateHeld, r.State)
		assert.Equal(t, "h1", r.Node)
		assert.Equal(t, "eth0", r.Interface)
		assert.Equal(t, "02:00:00:00:00:01", r.MAC)
		assert.Equal(t, p.Session, r.Session)
		assert.Equal(t, "30s", r.TTL)
		assert.NotNil(t, r.Since)
		assert.Equal(t, StateUnknown, held.Predecessor.State)

		require.NoError(t, h.release("stopped by a test"))
		p, r = b.consul.get(lockKey), b.record()
		assert.Empty(t, p.Session)
		assert.EqualValues(t, api.LockFlagValue, p.Flags, "`consul lock` refuses a key without the flag")
		assert.Equal(t, StateReleased, r.State)
		assert.Equal(t, "stopped by a test", r.Reason)

		synctest.Wait()
		require.NotNil(t, b.consul.get("p/.members/h1"))
		require.NoError(t, b.stop())
		assert.Empty(t, b.consul.sessions)
		assert.Nil(t, b.consul.get("p/.members/h1"))
		assert.Equal(t, 1, b.consul.count("PUT /v1/agent/service/deregister/s-h1"))
	})
}

func TestOnlyACleanEndIsReleased(t *testing.T) {
	dead := Record{State: StateHeld, Node: "h2", Owner: Owner{MAC: "02:00:00:00:00:02"}, TTL: "15s"}
	left := Record{State: StateReleased, Node: "h2", Reason: "stopped"}
	unclean := fmt.Errorf("%w: the kernel refused", ErrUnclean)
	tests := map[string]struct {
		last    Record
		serves  bool
		err     error
		state   State
		node    string
		address string
	}{
		"served, clean":               {dead, true, errors.New("over"), StateReleased, "h1", ""},
		"served, unclean":             {dead, true, unclean, StateHeld, "h1", "02:00:00:00:00:01"},
		"never served, last one dead": {dead, false, errors.New("over"), StateHeld, "h2", "02:00:00:00:00:02"},
		"never served, last one left": {left, false, errors.New("over"), StateReleased, "h2", ""},
		"never served, nobody known":  {Record{}, false, errors.New("over"), StateHeld, "h1", "02:00:00:00:00:01"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				b.consul.put(lockKey, string(test.last.encode()), "")
				err := b.keeper.Hold(context.Background(), ours, func(_ context.Context, held *Held) error {
					if test.serves {
						held.Serving()
					}
					return test.err
				})
				require.Equal(t, test.err, err)
				assert.Empty(t, b.consul.get(lockKey).Session)
				r := b.record()
				assert.Equal(t, test.state, r.State)
				assert.Equal(t, test.node, r.Node)
				assert.Equal(t, test.address, r.MAC)
			})
		})
	}
}

func TestLosingTheLock(t *testing.T) {
	tests := map[string]struct {
		lose func(b *bench, session string)
		want error
		text string
	}{
		"session destroyed": {func(b *bench, s string) { b.consul.destroy(s) }, ErrSessionLost, "does not know it"},
		"key deleted":       {func(b *bench, _ string) { b.consul.delete(lockKey) }, ErrLockLost, "deleted"},
		"key overwritten":   {func(b *bench, _ string) { b.consul.put(lockKey, "mine", "") }, ErrLockLost, "overwritten"},
		"key taken":         {func(b *bench, _ string) { b.consul.put(lockKey, "", "other") }, ErrLockLost, "session other has it"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				h := b.hold()
				<-h.held
				time.Sleep(10*time.Second + 500*time.Millisecond)
				before := time.Since(b.start)
				test.lose(b, b.consul.get(lockKey).Session)
				assert.Equal(t, before, <-h.lost, "without any delay")
				err := <-h.result
				require.ErrorIs(t, err, test.want)
				assert.ErrorContains(t, err, test.text)
			})
		})
	}
}

func TestOverwrittenKeyIsGivenBack(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		b.consul.put(lockKey, "mine", "")
		require.ErrorIs(t, <-h.result, ErrLockLost)
		assert.Empty(t, b.consul.get(lockKey).Session)
	})
}

func TestAmbiguousAcquisition(t *testing.T) {
	for name, happened := range map[string]bool{"it happened": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				var once sync.Once
				var reads int
				b.consul.on(func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, lockName) {
						assert.Contains(t, r.URL.RawQuery, "consistent")
						reads++
					}
					return false
				})
				// The first acquisition is not answered, whether it was written or not.
				acquisition := only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
					body, _ := io.ReadAll(r.Body)
					r.Body = io.NopCloser(strings.NewReader(string(body)))
					cut := false
					if strings.Contains(string(body), lockName) {
						once.Do(func() { cut = true })
					}
					if cut {
						if happened {
							b.consul.serve(r)
						}
						panic(http.ErrAbortHandler)
					}
					return false
				})
				count := b.consul.intercept
				b.consul.on(func(w http.ResponseWriter, r *http.Request) bool {
					return acquisition(w, r) || count(w, r)
				})
				h := b.hold()
				held := <-h.held
				assert.Equal(t, StateUnknown, held.Predecessor.State)
				assert.Equal(t, 1, reads, "a write of unknown outcome is read back")
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Empty(t, h.lost)
				require.NoError(t, h.release("done"))
			})
		})
	}
}

func TestPredecessor(t *testing.T) {
	bubble(t, func(b *bench) {
		b.consul.begin("other")
		b.consul.put(lockKey, `{"state":"held","node":"h2","mac":"02:00:00:00:00:02","ttl":"15s"}`, "other")
		h := b.hold()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.held)
		b.consul.destroy("other")
		held := <-h.held
		assert.Equal(t, StateHeld, held.Predecessor.State)
		assert.Equal(t, "02:00:00:00:00:02", held.Predecessor.MAC)
		assert.Equal(t, 15*time.Second, held.Predecessor.OwnerTTL(ttl))
		require.NoError(t, h.release("done"))
	})
}

func TestContendsAgainAfterRelease(t *testing.T) {
	bubble(t, func(b *bench) {
		for range 3 {
			h := b.hold()
			held := <-h.held
			synctest.Wait()
			require.Empty(t, h.lost, "a view from before the release is not believed")
			require.NoError(t, held.Verify(context.Background()))
			require.NoError(t, h.release("again"))
			require.ErrorIs(t, held.Verify(context.Background()), ErrLockLost)
		}
	})
}

func TestLockDelayIsWaitedOut(t *testing.T) {
	bubble(t, func(b *bench) {
		delayed := time.Now().Add(15 * time.Second)
		b.consul.on(only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if strings.Contains(string(body), lockName) && time.Now().Before(delayed) {
				return status(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"failed to lock key due to lock delay"}]}`)(w, r)
			}
			return false
		}))
		h := b.hold()
		<-h.held
		assert.WithinRange(t, time.Now(), delayed, delayed.Add(2*time.Second))
		require.NoError(t, h.release("done"))
	})
}

// A lock is known to be held from when it was asked for, not from when the answer
// was read: the process may have been paused in between.
func TestSinceIsBeforeTheAnswer(t *testing.T) {
	bubble(t, func(b *bench) {
		b.consul.delay(func(r *http.Request) {
			if r.URL.Path == "/v1/txn" {
				time.Sleep(3 * time.Second)
			}
		})
		h := b.hold()
		held := <-h.held
		assert.GreaterOrEqual(t, held.Now()-held.Since(), 3*time.Second)
		b.consul.delay(nil)
		time.Sleep(4 * time.Second) // for the answers that are still on their way
		require.NoError(t, h.release("done"))
	})
}
