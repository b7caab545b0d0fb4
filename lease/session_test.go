package lease

import (
	"encoding/json"
	"net/http"
	"strings"
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

func TestSessionBody(t *testing.T) {
	bubble(t, func(b *instance) {
		var body map[string]any
		b.consul.On(simconsul.Only("/v1/session/create", func(_ http.ResponseWriter, r *http.Request) bool {
			_ = json.NewDecoder(r.Body).Decode(&body)
			return false
		}))
		h := b.hold()
		<-h.held
		assert.Equal(t, map[string]any{
			"Name": "consul-vip", "LockDelay": "0s", "Behavior": "release", "TTL": "30s",
			"NodeChecks": []any{"serfHealth"}, "ServiceChecks": []any{map[string]any{"ID": "s-h1"}},
		}, body)
		h.stops("done")
	})
}

func TestExpiresExactlyAtTheDeadline(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		time.Sleep(12 * time.Second) // renewals at 5 s and 10 s
		b.consul.On(simconsul.Answer(500, "text/plain", "No cluster leader"))

		// The last answered renewal was sent 10 s after the session was created.
		created := 0 * time.Second
		assert.Equal(t, created+10*time.Second+ttl-time.Second, <-h.lost)
		h.ends(SessionLost)
		b.consul.On(nil)
	})
}

func TestDeadlineCountsFromSending(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		held := <-h.held
		// Answered within its deadline, but 2 s after it was sent.
		b.consul.Delay(func(r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/session/renew/") {
				time.Sleep(2 * time.Second)
			}
		})
		time.Sleep(8 * time.Second)
		sent, now := 5*time.Second, time.Since(b.start)
		assert.Equal(t, sent+ttl-time.Second-now, held.Remaining())
		b.consul.Delay(nil)
		h.stops("done")
	})
}

func TestLateAnswerRevivesNothing(t *testing.T) {
	s := newSession("s", ttl, 0)
	s.renewed(10*time.Second, 29*time.Second)
	assert.Equal(t, 29*time.Second, s.deadline(), "answered at the deadline")
	s.renewed(10*time.Second, 28*time.Second)
	assert.Equal(t, 39*time.Second, s.deadline(), "answered before it")

	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		// Consul takes the renewals, but its answers come only after the deadline.
		released := make(chan struct{})
		b.consul.Delay(func(r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/session/renew/") {
				<-released
			}
		})
		assert.Equal(t, ttl-time.Second, <-h.lost)
		close(released)
		h.ends(SessionLost)
		b.consul.Delay(nil)
	})
}

func TestSuspendedMachineNotices(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		time.Sleep(time.Second)
		began := time.Since(b.start)
		b.asleep.Store(int64(time.Minute))
		assert.LessOrEqual(t, <-h.lost-began, deadlinePoll)
		h.ends(SessionLost)
	})
}

func TestOnlyConsulEndsASession(t *testing.T) {
	garbage := map[string]func(http.ResponseWriter, *http.Request) bool{
		"500":         simconsul.Answer(500, "text/plain", "No cluster leader"),
		"429":         simconsul.Answer(429, "text/plain", "Too many requests"),
		"404 of html": simconsul.Answer(404, "text/html", "<html>not here</html>"),
		"200 of html": simconsul.Answer(200, "text/html", "<html>welcome</html>"),
		"empty list":  simconsul.Answer(200, "application/json", "[]"),
		"null":        simconsul.Answer(200, "application/json", "null"),
		"no body":     simconsul.Answer(200, "application/json", ""),
		"cut off":     func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"no answer":   nil,
	}
	for name, answer := range garbage {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(b *instance) {
				h := b.hold()
				<-h.held
				b.consul.On(b.consul.OrHang(answer))
				time.Sleep(20 * time.Second)
				synctest.Wait()
				require.Empty(t, h.lost, "the lock is held until the deadline")
				b.consul.On(nil)
				time.Sleep(20 * time.Second)
				synctest.Wait()
				require.Empty(t, h.lost, "and afterwards, when Consul answers again")
				h.stops("done")
			})
		})
		t.Run("standby/"+name, func(t *testing.T) {
			bubble(t, func(b *instance) {
				b.consul.On(b.consul.OrHang(answer))
				h := b.hold()
				time.Sleep(5 * time.Minute)
				b.consul.On(nil)
				time.Sleep(15 * time.Second)
				synctest.Wait()
				require.Len(t, h.held, 1, "it contends again")
				h.stops("done")
			})
		})
	}
}

// A leader that replays its log answers with history, except to consistent requests.
func TestHistoryIsIgnored(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Put("p/.members/h2", `{"node":"h2"}`, "dead")
		b.consul.Begin("dead", sessionName)
		b.consul.On(func(w http.ResponseWriter, r *http.Request) bool {
			q := r.URL.Query()
			if !strings.HasPrefix(r.URL.Path, "/v1/kv/") || q.Has("consistent") || q.Get("index") != "" {
				return false
			}
			w.Header().Set("X-Consul-Index", "5")
			w.WriteHeader(http.StatusNotFound)
			return true
		})
		o := b.second()
		h := o.hold()
		<-h.held
		assert.NotContains(t, b.consul.Sessions(), "dead", "the session of the previous process")
		b.consul.On(nil)
		_ = h.release("done")
		require.NoError(t, o.stop())
	})
}

func TestEvictsPreviousProcessOfThisNode(t *testing.T) {
	bubble(t, func(b *instance) {
		b.consul.Begin("dead", sessionName)
		b.consul.Put(lockKey, `{"state":"held","node":"h1"}`, "dead")
		h := b.hold()
		held := <-h.held
		assert.Equal(t, state.RecordHeld, held.Previous.State, "its kernel may still have the address")
		assert.NotContains(t, b.consul.Sessions(), "dead")
		h.stops("done")
	})
}

func TestNodeNameInUseElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := simconsul.New(t)
		client, closeClient := f.Client(consul.Transport)
		defer closeClient()
		f.Begin("live", sessionName)
		f.Put("p/.members/web", `{"node":"web"}`, "live")
		k := New(Config{Client: consul.New(client, nil), Prefix: "p", Node: "web", SessionTTL: ttl, Logger: hclog.NewNullLogger()})
		require.NoError(t, k.identify(t.Context()))
		require.NoError(t, k.evictPrevious(t.Context()), "same agent: a dead process")

		f.Begin("live", sessionName)
		f.Put("p/.members/web", `{"node":"web"}`, "live")
		k = New(Config{Client: consul.New(client, nil), Prefix: "p", Node: "web", SessionTTL: ttl, Logger: hclog.NewNullLogger()})
		k.agentNode, k.node = "h2", "web"
		require.ErrorIs(t, k.Run(t.Context()), ErrNodeTaken)
		assert.Contains(t, f.Sessions(), "live")
	})
}

func TestMemberKeyIsKept(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		synctest.Wait()
		p := b.consul.Get("p/.members/h1")
		require.NotNil(t, p)
		assert.JSONEq(t, `{"node":"h1","session":"`+p.Session+`","vips":{"10.77.0.100":100},"version":"v"}`, string(p.Value))
		b.consul.Delete("p/.members/h1")
		time.Sleep(time.Second)
		require.NotNil(t, b.consul.Get("p/.members/h1"))

		// A lock that it no longer contends for is no longer in the entry.
		h.stops("done")
		synctest.Wait()
		assert.Contains(t, string(b.consul.Get("p/.members/h1").Value), `"vips":{}`)

		// The standby creates another session and enrolls under it.
		b.consul.Destroy(p.Session)
		time.Sleep(10 * time.Second)
		q := b.consul.Get("p/.members/h1")
		require.NotNil(t, q)
		assert.NotEmpty(t, q.Session)
		assert.NotEqual(t, p.Session, q.Session)
	})
}

func TestStopIsQuickWhateverConsulDoes(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		b.consul.On(b.consul.OrHang(nil))
		began := time.Now()
		h.stops("done")
		require.NoError(t, b.stop())
		assert.Less(t, time.Since(began), 3500*time.Millisecond)
	})
}

// The servers hear of the check some milliseconds after the agent. With the pause of
// a long outage between two tries, the check would run out each time.
func TestACheckThatReachesTheServersLate(t *testing.T) {
	bubble(t, func(b *instance) {
		var passed time.Time
		b.consul.On(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case strings.HasPrefix(r.URL.Path, "/v1/agent/check/update/"):
				passed = time.Now()
			case r.URL.Path == "/v1/session/create" && time.Since(b.start) < 30*time.Second:
				return simconsul.Answer(500, "text/plain", "No cluster leader")(w, r)
			case r.URL.Path == "/v1/session/create" && (time.Since(passed) < 20*time.Millisecond || time.Since(passed) > 2*time.Second):
				return simconsul.Answer(500, "text/plain", "Check 's-h1' is in critical state")(w, r)
			}
			return false
		})
		h := b.hold()
		time.Sleep(time.Minute)
		require.Len(t, h.held, 1)
		b.consul.On(nil)
		h.stops("done")
	})
}
