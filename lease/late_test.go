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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Tests of writes that arrive late or twice, and of another history of Consul.

// body reads a request's body and leaves it to be read again.
func body(r *http.Request) string {
	b, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(b)))
	return string(b)
}

// unlocks reports whether a request unlocks a key.
func unlocks(r *http.Request) bool {
	return r.URL.Path == "/v1/txn" && strings.Contains(body(r), `"unlock"`)
}

// detain breaks the connection of the first unlock and keeps the request. The
// returned function lets it arrive.
func (b *instance) detain() (arrive func()) { return b.detainAnd(func() {}) }

// detainAnd also calls happens when it breaks the connection.
func (b *instance) detainAnd(happens func()) (arrive func()) {
	late := make(chan func(), 1)
	var once sync.Once
	b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
		detained := false
		if unlocks(r) {
			once.Do(func() { detained = true })
		}
		if detained {
			again := r.Clone(context.Background())
			again.Body = io.NopCloser(strings.NewReader(body(r)))
			late <- func() { b.consul.Serve(again) }
			happens()
			panic(http.ErrAbortHandler)
		}
		return false
	})
	return func() { (<-late)() }
}

// served is a hold's function that serves and ends at once.
func served(why error) func(context.Context, *Held) Left {
	return func(_ context.Context, h *Held) Left {
		h.Bound()
		return Left{Reason: why}
	}
}

func TestLateReleaseIsIgnored(t *testing.T) {
	bubble(t, func(b *instance) {
		why := errors.New("carrier lost")
		arrive := b.detain()
		require.Equal(t, why, b.run(ours, served(why)).Reason)
		h := b.hold()
		<-h.held
		arrive()
		synctest.Wait()
		assert.NotEmpty(t, b.consul.Get(lockKey).Session)
		assert.Equal(t, state.RecordHeld, b.record().State)
		assert.Empty(t, h.lost)
		h.stops("done")
	})
}

// TestLateTransferIsIgnored transfers a lock that is already served again when the
// write arrives.
func TestLateTransferIsIgnored(t *testing.T) {
	bubble(t, func(b *instance) {
		fail, result := make(chan error), make(chan End)
		go func() {
			result <- b.run(ours, func(_ context.Context, h *Held) Left {
				h.Bound()
				return Left{Reason: <-fail}
			})
		}()
		time.Sleep(5 * time.Second)
		o := b.second()
		next := o.holdLock(ours)
		time.Sleep(5 * time.Second)
		// The release that follows finds no other member.
		arrive := b.detainAnd(func() { b.consul.Put("p/"+ours.Name+"/pin", "h1", "") })
		require.Empty(t, next.held)
		why := errors.New("carrier lost")
		fail <- why
		require.Equal(t, why, (<-result).Reason)
		h := b.hold()
		<-h.held
		arrive()
		synctest.Wait()
		assert.Equal(t, "h1", b.record().Node)
		assert.Equal(t, state.RecordHeld, b.record().State)
		assert.Empty(t, h.lost)
		h.stops("done")
		_ = next.release("done")
		require.NoError(t, o.stop())
	})
}

func TestReleaseWithoutAnAnswerAndAnOldState(t *testing.T) {
	bubble(t, func(b *instance) {
		why := errors.New("carrier lost")
		var once sync.Once
		end := b.run(ours, func(_ context.Context, h *Held) Left {
			h.Bound()
			b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v1/kv/p/" {
					panic(http.ErrAbortHandler) // the watch has an outage of its own
				}
				unheard := false
				if unlocks(r) {
					once.Do(func() { unheard = true })
				}
				if unheard {
					b.consul.Serve(r)
					panic(http.ErrAbortHandler)
				}
				return false
			})
			return Left{Reason: why}
		})
		require.Equal(t, why, end.Reason)
		b.consul.Put(lockKey, `{"state":"held","node":"h2"}`, "other")
		h := b.hold()
		time.Sleep(200 * time.Millisecond)
		assert.Empty(t, h.held, "only the old State shows it under our session")
		b.consul.On(nil)
		h.stops("done")
	})
}

// TestReleaseLeavesALaterTransfer transfers the lock to this process again before its
// release arrives. The giver may serve still, so the address is not released.
func TestReleaseLeavesALaterTransfer(t *testing.T) {
	bubble(t, func(b *instance) {
		var once sync.Once
		b.run(ours, func(_ context.Context, h *Held) Left {
			h.Bound()
			transferred := state.Record{State: state.RecordHandover, From: "h2", Node: "h1", Session: h.session.id}
			b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
				if unlocks(r) {
					once.Do(func() { b.consul.Put(lockKey, string(transferred.Encode()), h.session.id) })
				}
				return false
			})
			return Left{Reason: errors.New("carrier lost")}
		})
		b.consul.On(nil)
		assert.NotEmpty(t, b.consul.Get(lockKey).Session)
		assert.Equal(t, state.RecordHandover, b.record().State)
	})
}

func TestOverwrittenAndUnclean(t *testing.T) {
	bubble(t, func(b *instance) {
		serving := make(chan struct{})
		ended := make(chan End, 1)
		go func() {
			ended <- b.run(ours, func(ctx context.Context, h *Held) Left {
				h.Bound()
				close(serving)
				<-ctx.Done()
				return Left{Unclean: true}
			})
		}()
		<-serving
		b.consul.Put(lockKey, "mine", "")
		require.Equal(t, LockLost, (<-ended).Kind)
		assert.Equal(t, state.RecordHeld, b.record().State)
	})
}

func TestServersWithAnotherHistory(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Advance(100_000)
		h := b.hold()
		<-h.held
		h.stops("done")

		b.consul.Replace(20)
		h = b.hold()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, h.held, 1)
		h.stops("done")
	})
}

func TestNoTransferToAnEndedSession(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		// The successor gets no answer about its session until it gives the session up, while
		// Consul keeps it for twice the TTL.
		old := b.consul.Get("p/.members/h2").Session
		b.consul.On(simconsul.Only("/v1/session/renew/"+old, func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }))
		time.Sleep(ttl + 5*time.Second)
		b.consul.On(nil)
		synctest.Wait()
		member := b.consul.Get("p/.members/h2")
		require.NotNil(t, member)
		require.NotEqual(t, old, member.Session)
		h.stops("stopped")
		<-next.held
		assert.Equal(t, member.Session, b.consul.Get(lockKey).Session)
	})
}

func TestSessionEndsAlthoughWritesHang(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		b.consul.On(simconsul.Only("/v1/txn", b.consul.OrHang(nil)))
		h.stops("stopped")
		require.NoError(t, b.stop())
		assert.Equal(t, 1, b.consul.Count("PUT /v1/session/destroy/"))
		assert.Equal(t, 1, b.consul.Count("PUT /v1/agent/service/deregister/"))
	})
}
