package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	vip     = "10.77.0.100"
	lockKey = "p/10.77.0.100/.lock"
	ttl     = 30 * time.Second
)

var ours = Lock{Name: vip, Priority: 100, Owner: Owner{Interface: "eth0", MAC: "02:00:00:00:00:01"}}

// bench is a Keeper at work on a fake Consul, in a synctest bubble.
type bench struct {
	t      *testing.T
	consul *fakeConsul
	keeper *Keeper
	start  time.Time
	asleep atomic.Int64 // time that the machine was suspended, unseen by Go's clock
	stop   func() error // ends Run and returns its error
}

// bubble runs test with a Keeper whose boot-time clock is the bubble's.
func bubble(t *testing.T, test func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, consul: newFakeConsul(t), start: time.Now()}
		client, closeClient := b.consul.client()
		defer closeClient()
		b.keeper = New(Config{
			Client: client, Prefix: "p", Service: "s",
			SessionTTL: ttl, CheckTTL: 3 * time.Second, Version: "v", Logger: hclog.NewNullLogger(),
		})
		b.keeper.now = func() time.Duration { return time.Since(b.start) + time.Duration(b.asleep.Load()) }
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- b.keeper.Run(ctx) }()
		b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
		test(b)
		require.NoError(t, b.stop())
	})
}

// hold is one Hold under way.
type hold struct {
	b      *bench
	held   chan *Held
	lost   chan time.Duration // when fn's context ended, since the bubble's start
	result chan error
	cancel context.CancelCauseFunc
	cause  error // of the end of fn's context, to be read after result
}

// hold starts a Hold whose function waits for the end of its context.
func (b *bench) hold() *hold { return b.holdLock(ours) }

func (b *bench) holdLock(lock Lock) *hold {
	ctx, cancel := context.WithCancelCause(context.Background())
	h := &hold{b: b, held: make(chan *Held, 10), lost: make(chan time.Duration, 10), result: make(chan error, 1), cancel: cancel}
	go func() {
		defer close(h.result)
		h.result <- b.keeper.Hold(ctx, lock, func(ctx context.Context, held *Held) error {
			held.Serving()
			h.held <- held
			<-ctx.Done()
			h.cause = context.Cause(ctx)
			h.lost <- time.Since(b.start)
			return nil
		})
	}()
	return h
}

// release ends the hold as a stop would and returns what Hold returned.
func (h *hold) release(why string) error {
	h.cancel(errors.New(why))
	return <-h.result
}

func (b *bench) record() Record { return ParseRecord(b.consul.get(lockKey).Value) }

// status answers a request by itself, as a proxy or a broken agent would.
func status(code int, contentType, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// only restricts an interception to paths that begin so.
func only(path string, f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasPrefix(r.URL.Path, path) && f(w, r)
	}
}

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

func TestSessionBody(t *testing.T) {
	bubble(t, func(b *bench) {
		var body map[string]any
		b.consul.on(only("/v1/session/create", func(_ http.ResponseWriter, r *http.Request) bool {
			_ = json.NewDecoder(r.Body).Decode(&body)
			return false
		}))
		h := b.hold()
		<-h.held
		assert.Equal(t, map[string]any{
			"Name": "consul-vip", "LockDelay": "0s", "Behavior": "release", "TTL": "30s",
			"NodeChecks": []any{"serfHealth"}, "ServiceChecks": []any{map[string]any{"ID": "s-h1"}},
		}, body)
		require.NoError(t, h.release("done"))
	})
}

func TestFenceExactlyAtDeadline(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		time.Sleep(12 * time.Second) // renewals at 5 s and 10 s
		b.consul.on(status(500, "text/plain", "No cluster leader"))

		// The last answered renewal left at 10 s after the session was there.
		created := 0 * time.Second
		assert.Equal(t, created+10*time.Second+ttl-time.Second, <-h.lost)
		require.ErrorIs(t, <-h.result, ErrSessionLost)
		b.consul.on(nil)
	})
}

func TestDeadlineCountsFromSending(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		held := <-h.held
		// Answered within its deadline, but 2 s after it was sent.
		b.consul.delay(func(r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/session/renew/") {
				time.Sleep(2 * time.Second)
			}
		})
		time.Sleep(8 * time.Second)
		sent, now := 5*time.Second, time.Since(b.start)
		assert.Equal(t, sent+ttl-time.Second-now, held.Remaining())
		b.consul.delay(nil)
		require.NoError(t, h.release("done"))
	})
}

func TestLateAnswerRevivesNothing(t *testing.T) {
	s := newSession("s", ttl, 0)
	s.renewed(10*time.Second, 29*time.Second)
	assert.Equal(t, 29*time.Second, s.hold(), "answered at the deadline")
	s.renewed(10*time.Second, 28*time.Second)
	assert.Equal(t, 39*time.Second, s.hold(), "answered before it")

	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		// Consul takes the renewals, but its answers come only after the fence.
		released := make(chan struct{})
		b.consul.delay(func(r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/session/renew/") {
				<-released
			}
		})
		assert.Equal(t, ttl-time.Second, <-h.lost)
		close(released)
		require.ErrorIs(t, <-h.result, ErrSessionLost)
	})
}

func TestSuspendedMachineNotices(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		time.Sleep(time.Second)
		began := time.Since(b.start)
		b.asleep.Store(int64(time.Minute))
		assert.LessOrEqual(t, <-h.lost-began, fencePoll)
		require.ErrorIs(t, <-h.result, ErrSessionLost)
	})
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

func TestOnlyConsulEndsASession(t *testing.T) {
	garbage := map[string]func(http.ResponseWriter, *http.Request) bool{
		"500":         status(500, "text/plain", "No cluster leader"),
		"429":         status(429, "text/plain", "Too many requests"),
		"404 of html": status(404, "text/html", "<html>not here</html>"),
		"200 of html": status(200, "text/html", "<html>welcome</html>"),
		"empty list":  status(200, "application/json", "[]"),
		"null":        status(200, "application/json", "null"),
		"no body":     status(200, "application/json", ""),
		"cut off":     func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"no answer":   nil,
	}
	for name, answer := range garbage {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				h := b.hold()
				<-h.held
				b.consul.on(b.consul.orHang(answer))
				time.Sleep(20 * time.Second)
				synctest.Wait()
				require.Empty(t, h.lost, "a holder rides it out until its deadline")
				b.consul.on(nil)
				time.Sleep(20 * time.Second)
				synctest.Wait()
				require.Empty(t, h.lost, "and goes on when Consul is back")
				require.NoError(t, h.release("done"))
			})
		})
		t.Run("standby/"+name, func(t *testing.T) {
			bubble(t, func(b *bench) {
				b.consul.on(b.consul.orHang(answer))
				h := b.hold()
				time.Sleep(5 * time.Minute)
				b.consul.on(nil)
				time.Sleep(15 * time.Second)
				synctest.Wait()
				require.Len(t, h.held, 1, "contends again by itself")
				require.NoError(t, h.release("done"))
			})
		})
	}
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
		b.consul.sessions["other"] = true
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

func TestEvictsPredecessorOfThisNode(t *testing.T) {
	bubble(t, func(b *bench) {
		b.consul.sessions["dead"] = true
		b.consul.put(lockKey, `{"state":"held","node":"h1"}`, "dead")
		h := b.hold()
		held := <-h.held
		assert.Equal(t, StateHeld, held.Predecessor.State, "its kernel may still have the address")
		assert.NotContains(t, b.consul.sessions, "dead")
		require.NoError(t, h.release("done"))
	})
}

func TestNodeNameInUseElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		client, closeClient := f.client()
		defer closeClient()
		f.sessions["live"] = true
		f.put("p/.members/web", `{"node":"web"}`, "live")
		k := New(Config{Client: client, Prefix: "p", Node: "web", SessionTTL: ttl, Logger: hclog.NewNullLogger()})
		require.NoError(t, k.identify(t.Context()))
		require.NoError(t, k.evictPredecessor(t.Context()), "same agent: a dead predecessor")

		f.sessions["live"] = true
		f.put("p/.members/web", `{"node":"web"}`, "live")
		k = New(Config{Client: client, Prefix: "p", Node: "web", SessionTTL: ttl, Logger: hclog.NewNullLogger()})
		k.agentNode, k.node = "h2", "web"
		require.ErrorIs(t, k.Run(t.Context()), ErrNodeTaken)
		assert.Contains(t, f.sessions, "live")
	})
}

func TestMembershipIsKept(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		synctest.Wait()
		p := b.consul.get("p/.members/h1")
		require.NotNil(t, p)
		assert.JSONEq(t, `{"node":"h1","session":"`+p.Session+`","vips":{"10.77.0.100":100},"version":"v"}`, string(p.Value))
		b.consul.delete("p/.members/h1")
		time.Sleep(time.Second)
		require.NotNil(t, b.consul.get("p/.members/h1"))

		// What it no longer contends for is no longer in it.
		require.NoError(t, h.release("done"))
		synctest.Wait()
		assert.Contains(t, string(b.consul.get("p/.members/h1").Value), `"vips":{}`)

		// Another session: the standby makes one and enrolls under it.
		b.consul.destroy(p.Session)
		time.Sleep(10 * time.Second)
		q := b.consul.get("p/.members/h1")
		require.NotNil(t, q)
		assert.NotEmpty(t, q.Session)
		assert.NotEqual(t, p.Session, q.Session)
	})
}

func TestStopIsQuickWhateverConsulDoes(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		b.consul.on(b.consul.orHang(nil))
		began := time.Now()
		require.NoError(t, h.release("done"))
		require.NoError(t, b.stop())
		assert.Less(t, time.Since(began), 3500*time.Millisecond)
	})
}
