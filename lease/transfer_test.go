package lease

import (
	"bytes"
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

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// second runs another instance, of node h2, on the same Consul.
func (b *instance) second() *instance { return b.node("h2") }

// node runs another instance on the same Consul.
func (b *instance) node(name string) *instance {
	client, closeIdle := b.consul.NewClient(consul.Transport)
	o := &instance{t: b.t, consul: b.consul, start: b.start, contenders: map[string]*Contender{}}
	o.keeper = New(Config{
		Client: consul.New(client, nil), Prefix: "p", Service: "s", Node: name,
		SessionTTL: ttl, CheckTTL: 3 * time.Second, Version: "v", Logger: hclog.NewNullLogger(),
	})
	o.keeper.now = b.keeper.now
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.keeper.Run(ctx) }()
	o.stop = sync.OnceValue(func() error {
		cancel()
		defer closeIdle()
		return <-ended
	})
	return o
}

// pair runs test with h1 holding the lock and h2 waiting for it.
func pair(t *testing.T, lock Lock, test func(b, o *instance, h, next *hold, held *Held)) {
	bubble(t, func(b *instance) {
		h := b.holdLock(lock)
		held := <-h.held
		o := b.second()
		next := o.holdLock(lock)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Empty(t, next.held)
		test(b, o, h, next, held)
		_ = next.release("done")
		require.NoError(t, o.stop())
	})
}

func TestStopTransfers(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, held *Held) {
		began := time.Now()
		h.stops("stopped by a test")
		assert.Equal(t, Transferred, h.ended.Kind)
		assert.ErrorContains(t, h.ended.Reason, "stopped by a test")
		got := <-next.held
		assert.Zero(t, time.Since(began), "the successor does not wait for its position")
		assert.Equal(t, state.RecordHandover, got.Previous.State)
		assert.Equal(t, "h1", got.Previous.From)
		assert.NotEqual(t, newNonce(), got.Previous.Nonce)
		assert.Equal(t, ours.Owner, got.Previous.Owner, "the owner whose frame to wait for")
		require.NotNil(t, h.ended.Handover)
		assert.Equal(t, got.Previous, *h.ended.Handover, "both know the nonce")
		assert.Regexp(t, "^[0-9a-f]{12}$", got.Previous.Nonce)

		synctest.Wait()
		r := b.record()
		assert.Equal(t, state.RecordHeld, r.State)
		assert.Equal(t, "h2", r.Node)
		assert.Equal(t, b.consul.Get(lockKey).Session, r.Session)
		assert.Error(t, held.Confirm(context.Background(), 0))
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, next.lost)
	})
}

// TestEndOfOneLockTransfersIt ends a lock by fn's own error, while the process lives
// on.
func TestEndOfOneLockTransfersIt(t *testing.T) {
	broken := errors.New("carrier lost")
	tests := map[string]struct {
		left    Left
		alone   bool // no member is there to take over
		state   state.RecordState
		stopped bool
	}{
		"to the successor":      {left: Left{Reason: broken}, state: state.RecordHandover, stopped: true},
		"not if it was unclean": {left: Left{Reason: broken, Unclean: true}, state: state.RecordHeld},
		"released if alone":     {left: Left{Reason: broken}, alone: true, state: state.RecordReleased, stopped: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *instance) {
				fail, result := make(chan Left), make(chan End)
				go func() {
					result <- b.run(ours, func(_ context.Context, held *Held) Left {
						held.Bound()
						return <-fail
					})
				}()
				time.Sleep(5 * time.Second)
				o := b.second()
				defer func() { require.NoError(t, o.stop()) }()
				next := &hold{held: make(chan *Held, 1), cancel: func(error) {}}
				if !test.alone {
					next = o.holdLock(ours)
					time.Sleep(5 * time.Second)
				}
				began := time.Now()
				fail <- test.left
				require.Equal(t, broken, (<-result).Reason)
				if test.alone {
					assert.Equal(t, test.state, b.record().State)
					return
				}
				got := <-next.held
				assert.Equal(t, test.state, got.Previous.State)
				assert.Equal(t, test.stopped, got.Previous.Stopped())
				if test.stopped {
					assert.Zero(t, time.Since(began), "the successor does not wait for its position")
					assert.Equal(t, "carrier lost", got.Previous.Reason)
				}
				_ = next.release("done")
			})
		})
	}
}

// TestSuccessorMayHaveServed has a new owner that ended before it could write that it
// served.
func TestSuccessorMayHaveServed(t *testing.T) {
	at := time.Now()
	bubble(t, func(b *instance) {
		last := state.Record{State: state.RecordHandover, From: "h3", Node: "h2", Owner: `{"mac":"02:00:00:00:00:03"}`, TTL: "15s", At: &at}
		b.consul.Put(lockKey, string(last.Encode()), "")
		h := b.hold()
		got := <-h.held
		assert.Equal(t, state.Record{State: state.RecordHeld, Node: "h2", TTL: "15s"}, got.Previous)
		h.stops("done")
	})
}

func TestOwnerServesUntilTheTransferIsCommitted(t *testing.T) {
	pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
		began := time.Now()
		b.consul.On(func(_ http.ResponseWriter, r *http.Request) bool {
			if unlocks(r) {
				time.Sleep(30 * time.Millisecond) // Consul commits late
			}
			return false
		})
		h.cancel(errors.New("stopped"))
		synctest.Wait()
		assert.Empty(t, h.lost)
		<-next.held
		h.ends(Transferred)
		assert.Equal(t, 30*time.Millisecond, time.Since(began))
		b.consul.On(nil)
	})
}

func TestTransferWithoutAnAnswer(t *testing.T) {
	for name, happened := range map[string]bool{"it happened": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			pair(t, ours, func(b, _ *instance, h, next *hold, _ *Held) {
				b.consul.On(simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
					body, _ := io.ReadAll(r.Body)
					r.Body = io.NopCloser(strings.NewReader(string(body)))
					if !strings.Contains(string(body), "unlock") {
						return false
					}
					if happened {
						b.consul.Serve(r)
					}
					panic(http.ErrAbortHandler)
				}))
				h.stops("stopped")
				assert.Equal(t, Transferred, h.ended.Kind, "it may have happened")
				require.NotNil(t, h.ended.Handover)
				assert.Equal(t, "h2", h.ended.Handover.Node)
				b.consul.On(nil)
				require.NoError(t, b.stop())
				got := <-next.held
				assert.NotEqual(t, state.RecordReleased, got.Previous.State, "the successor must make sure")
			})
		})
	}
}

func TestTransferRefused(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		// The successor's session has ended, but the watch has not shown it yet.
		refuse := simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if strings.Contains(string(body), `"Verb":"lock"`) && strings.Contains(string(body), `"Verb":"unlock"`) {
				return simconsul.Answer(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"invalid session"}]}`)(w, r)
			}
			return false
		})
		b.consul.On(refuse)
		h.stops("stopped by a test")
		require.NotEqual(t, Transferred, h.ended.Kind)
		got := <-next.held
		assert.Equal(t, state.RecordReleased, got.Previous.State)
		assert.Equal(t, "stopped by a test", got.Previous.Reason)
	})
}

func TestSuccessorDiesBeforeItBinds(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		// The successor acquires the lock and dies.
		h.stops("stopped")
		<-next.held
		b.consul.Put(lockKey, `{"state":"handover","from":"h1","node":"h2","mac":"02:00:00:00:00:01"}`, b.consul.Get(lockKey).Session)
		b.consul.Destroy(b.consul.Get(lockKey).Session)
		end := <-next.result
		require.Contains(t, []Kind{SessionLost, LockLost}, end.Kind, "what it sees first")
		again := b.hold()
		got := <-again.held
		assert.False(t, got.Previous.Stopped(), "the next owner must probe")
		again.stops("done")
	})
}

func TestLeavingMemberIsNoSuccessor(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		o.keeper.Leave()
		time.Sleep(time.Second)
		require.Nil(t, b.consul.Get("p/.members/h2"))
		h.stops("stopped")
		require.NotEqual(t, Transferred, h.ended.Kind)
		got := <-next.held
		assert.Equal(t, state.RecordReleased, got.Previous.State)
	})
}

func TestPin(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		b.consul.Put("p/10.77.0.100/pin", "h3\n", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, h.lost, "no member has that name")

		b.consul.Put("p/10.77.0.100/pin", "h2\n", "")
		got := <-next.held
		assert.Equal(t, state.RecordHandover, got.Previous.State)
		h.ends(Transferred)
		require.NotNil(t, h.ended.Handover)
		assert.Equal(t, got.Previous.Nonce, h.ended.Handover.Nonce)

		// No other node takes it, even if its node leaves.
		again := b.hold()
		next.stops("stopped")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, again.held)
		b.consul.Delete("p/10.77.0.100/pin")
		<-again.held
		again.stops("done")
	})
}

func TestPreempt(t *testing.T) {
	low := ours
	low.Priority, low.PreemptDelay = 200, 10*time.Second
	bubble(t, func(b *instance) {
		h := b.holdLock(low)
		<-h.held
		o := b.second()
		next := o.holdLock(ours)
		came := time.Now()
		<-next.held
		assert.WithinDuration(t, came.Add(low.PreemptDelay), time.Now(), 500*time.Millisecond)
		h.ends(Transferred)
		next.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestOrphanedLockIsReleased(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		session := b.consul.Get(lockKey).Session
		b.consul.Put("p/10.77.0.101/.lock", `{"state":"handover","from":"h2","node":"h1","mac":"02:00:00:00:00:02"}`, session)
		time.Sleep(3 * time.Second)
		p := b.consul.Get("p/10.77.0.101/.lock")
		assert.Empty(t, p.Session)
		r := state.ParseRecord(p.Value)
		assert.Equal(t, state.RecordHeld, r.State, "the previous owner may still serve")
		assert.Equal(t, "h2", r.Node)
		h.stops("done")
	})
}

// Thousands of orphans are one line of log.
func TestManyOrphansAreOneLine(t *testing.T) {
	var out syncBuffer
	bubbleLogging(t, hclog.New(&hclog.LoggerOptions{Output: &out}), func(b *instance) {
		h := b.hold()
		<-h.held
		session := b.consul.Get(lockKey).Session
		for i := range 300 {
			b.consul.Put(fmt.Sprintf("p/10.78.%d.%d/.lock", i/256, i%256), "", session)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		assert.Empty(t, b.consul.Get("p/10.78.1.43/.lock").Session)
		h.stops("done")
	})
	assert.Equal(t, 1, strings.Count(out.String(), "releasing orphaned locks"), out.String())
	assert.Contains(t, out.String(), "locks=300")
}

// syncBuffer is a buffer for the lines of several goroutines.
type syncBuffer struct {
	mu    sync.Mutex // guards lines
	lines bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}

func TestNoTransferBeforeTheLockIsServed(t *testing.T) {
	bubble(t, func(b *instance) {
		o := b.second()
		next := o.holdLock(Lock{Name: "other"})
		<-next.held
		ctx, cancel := context.WithCancelCause(context.Background())
		asking := make(chan struct{})
		ended := make(chan End, 1)
		go func() {
			ended <- b.contender(ours).Hold(ctx, func(ctx context.Context, _ *Held) Left {
				close(asking)
				<-ctx.Done()
				return Left{}
			})
		}()
		<-asking
		successor := o.hold()
		time.Sleep(time.Second)
		cancel(errors.New("stopped"))
		require.Equal(t, Stopped, (<-ended).Kind)
		got := <-successor.held
		assert.Equal(t, state.RecordHeld, got.Previous.State, "the next owner must probe")
		successor.stops("done")
		next.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestNodesThatStartTogetherSettleTogether(t *testing.T) {
	s := newSession("s", ttl, 0)
	alone := &state.State{Members: map[string]state.Member{"h1": {}}}
	both := &state.State{Members: map[string]state.Member{"h1": {}, "h2": {}}}
	s.settle(nil, both, 10*time.Millisecond)
	assert.Equal(t, settleTime, s.settled(), "the members that were there before")
	s.settle(alone, both, 700*time.Millisecond)
	assert.Equal(t, 1700*time.Millisecond, s.settled())
	s.settle(both, alone, 800*time.Millisecond)
	assert.Equal(t, 1700*time.Millisecond, s.settled(), "one that goes")
	s.settle(alone, both, 2*time.Second)
	assert.Equal(t, 1700*time.Millisecond, s.settled(), "settled already")
	s.settledAt.Store(int64(4500 * time.Millisecond))
	s.settle(alone, both, 4400*time.Millisecond)
	assert.Equal(t, settleLimit, s.settled())
}
