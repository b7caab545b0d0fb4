package lease

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMissingRules(t *testing.T) {
	key := right{"key", "write", "p/"}
	service := right{"service", "write", "s"}
	sessions := right{"session", "read", ""}
	session := right{"session", "write", "h1"}
	agent := right{"agent", "read", "h1"}
	for name, test := range map[string]struct {
		missing []right
		rules   []string
	}{
		"nothing": {nil, nil},
		"key":     {[]right{key}, []string{`key_prefix "p/" { policy = "write" }`}},
		"service": {[]right{service}, []string{`service "s" { policy = "write" }`}},
		"agent":   {[]right{agent}, []string{`agent_prefix "" { policy = "read" }`}},

		"sessions of others": {[]right{sessions}, []string{`session_prefix "" { policy = "read" }`}},
		"own session":        {[]right{session}, []string{`session "h1" { policy = "write" }`}},
		"all sessions":       {[]right{sessions, session}, []string{`session_prefix "" { policy = "write" }`}},

		"everything": {[]right{key, sessions, session, agent, service}, []string{
			`key_prefix "p/" { policy = "write" }`, `agent_prefix "" { policy = "read" }`,
			`service "s" { policy = "write" }`, `session_prefix "" { policy = "write" }`,
		}},
		// Of a session on a node whose name is not known nothing can be said.
		"the agent does not tell its name": {[]right{{"session", "write", ""}, {"agent", "read", ""}}, []string{
			`agent_prefix "" { policy = "read" }`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var rules []string
			for _, line := range missingRules(test.missing) {
				_, rule, _ := strings.Cut(line, ": ")
				rules = append(rules, rule)
			}
			assert.Equal(t, test.rules, rules)
		})
	}
}

// journal is the log of an audit. It is safe for concurrent use.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// news returns the lines since it was last called, without their times.
func (j *journal) news() (lines []string) {
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), "] ")
		lines = append(lines, strings.TrimSpace(line))
	}
	j.buf.Reset()
	return lines
}

// audited runs test with an audit at work at the default log level, and what
// raises a suspicion.
func audited(t *testing.T, test func(f *fakeConsul, j *journal, a *audit)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		client, closeClient := f.client()
		defer closeClient()
		j := new(journal)
		c := newConsul(client)
		defer c.close()
		a := newAudit(Config{Prefix: "p", Service: "s", CheckTTL: time.Second, Logger: hclog.New(&hclog.LoggerOptions{Output: j})}, c)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { a.run(ctx) })
		test(f, j, a)
		cancel()
		running.Wait()
	})
}

// denying answers for a token that lacks the rights to these resources.
func denying(resources ...string) func(http.ResponseWriter, *http.Request) bool {
	return only(authorizePath, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		var asked []map[string]any
		_ = json.NewDecoder(r.Body).Decode(&asked)
		for _, a := range asked {
			a["Allow"] = !strings.Contains(strings.Join(resources, " "), a["Resource"].(string))
		}
		_ = json.NewEncoder(w).Encode(asked)
		return true
	})
}

func TestMissingRightsAreNamedOnce(t *testing.T) {
	const (
		keys    = `missing ACL right: key_prefix "p/" { policy = "write" }`
		service = `missing ACL right: service "s" { policy = "write" }`
	)
	audited(t, func(f *fakeConsul, j *journal, a *audit) {
		f.on(denying("key"))
		a.identified("h1")
		assert.Equal(t, []string{keys}, j.news())

		time.Sleep(time.Minute)
		a.consul.suspicion.raise(errConflict)
		assert.Empty(t, j.news(), "it was said")

		f.on(denying("key", "service"))
		time.Sleep(auditPause)
		assert.Equal(t, []string{service}, j.news(), "what is new")

		f.on(denying())
		time.Sleep(auditPause)
		assert.Equal(t, []string{"the ACL token has all the rights it needs now"}, j.news())
		time.Sleep(time.Minute)
		assert.Empty(t, j.news())

		f.on(denying("key"))
		a.consul.suspicion.raise(errConflict)
		assert.Equal(t, []string{keys}, j.news(), "once more: it had been there")
	})
}

func TestAuditIsRare(t *testing.T) {
	audited(t, func(f *fakeConsul, _ *journal, a *audit) {
		f.on(denying())
		for range 100 {
			a.consul.suspicion.raise(errConflict)
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, f.count("POST "+authorizePath), 3)
		n := f.count("POST " + authorizePath)
		time.Sleep(time.Hour)
		assert.LessOrEqual(t, f.count("POST "+authorizePath), n+1, "without a suspicion nothing is asked")
	})
}

func TestAuditOfWhatConsulDoesNotSay(t *testing.T) {
	forbidden := status(403, "text/plain", "ACL not found")
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		want   []string
	}{
		"ACLs are off":     {only(authorizePath, status(401, "text/plain", "ACL support disabled")), nil},
		"no leader":        {only(authorizePath, status(500, "text/plain", "No cluster leader")), nil},
		"unknown token":    {forbidden, []string{"the ACL token is not known to Consul: it was deleted, has expired or is misspelt"}},
		"older Consul":     {only(authorizePath, status(404, "text/plain", "")), []string{"the ACL token lacks a right, and this Consul does not say which"}},
		"refused by proxy": {only(authorizePath, forbidden), []string{"the ACL token lacks a right, and this Consul does not say which"}},
		"not an answer":    {only(authorizePath, status(200, "application/json", "[]")), []string{"the ACL token lacks a right, and this Consul does not say which"}},
	} {
		t.Run(name, func(t *testing.T) {
			audited(t, func(f *fakeConsul, j *journal, a *audit) {
				refuse := only("/v1/session/renew/", status(403, "text/plain", "Permission denied"))
				f.on(func(w http.ResponseWriter, r *http.Request) bool { return test.answer(w, r) || refuse(w, r) })
				a.identified("h1")
				for range 3 {
					time.Sleep(auditPause)
					require.Error(t, a.consul.renewSession(context.Background(), "s"))
				}
				var said []string
				for _, line := range j.news() {
					message, _, _ := strings.Cut(line, ": refused=")
					said = append(said, message)
				}
				assert.Equal(t, test.want, said)
			})
		})
	}
}

// An owner that may no longer read its lock goes on: it was not deleted.
func TestFilteredListIsNoLoss(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		b.consul.on(only("/v1/kv/p/", func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("recurse") {
				return false
			}
			w.Header().Set("X-Consul-Index", "99")
			w.Header().Set("X-Consul-LastContact", "0")
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			w.WriteHeader(http.StatusNotFound)
			return true
		}))
		b.consul.put("p/other", "wakes the watch", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.lost)
		b.consul.on(nil)
		require.NoError(t, h.release("done"))
	})
}

// The agent reports the check under the token of the registration.
func TestRegistersAnewWithAnotherToken(t *testing.T) {
	const register, session = "PUT /v1/agent/service/register", "PUT /v1/session/create"
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		time.Sleep(time.Minute)
		require.Equal(t, 1, b.consul.count(register))
		b.consul.on(only("/v1/agent/service/register", status(500, "text/plain", "")))
		b.token <- struct{}{}
		time.Sleep(time.Minute)
		n := b.consul.count(register)
		assert.Greater(t, n, 2, "until it is done")
		b.consul.on(nil)
		time.Sleep(time.Minute)
		assert.Equal(t, n+1, b.consul.count(register))
		assert.Equal(t, 1, b.consul.count(session))
		require.NoError(t, h.release("done"))
	})
}

// Consul refuses a transaction for want of a right as for any other reason.
func TestRefusedTransactionRaisesASuspicion(t *testing.T) {
	bubble(t, func(b *bench) {
		h := b.hold()
		<-h.held
		require.NoError(t, h.release("done"))
		time.Sleep(time.Minute)
		n := b.consul.count("POST " + authorizePath)
		b.consul.on(only("/v1/txn", status(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"Permission denied"}]}`)))
		h = b.hold()
		time.Sleep(time.Minute)
		assert.Greater(t, b.consul.count("POST "+authorizePath), n)
		b.consul.on(nil)
		<-h.held
		require.NoError(t, h.release("done"))
	})
}

// Without a token, what may not be read is just not there.
func TestOperatorIsToldOfMissingRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		client, closeClient := f.client()
		defer closeClient()
		o := NewOperator(client, "p")
		_, err := o.read(t.Context())
		require.NoError(t, err, "there is nothing")
		f.on(denying("key"))
		_, err = o.read(t.Context())
		require.ErrorContains(t, err, `key_prefix "p/" { policy = "read" }`)
		f.on(status(403, "text/plain", "ACL not found"))
		_, err = o.read(t.Context())
		require.ErrorIs(t, err, errUnknownToken)
	})
}
