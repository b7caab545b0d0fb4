package consul

import (
	"bytes"
	"context"
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
)

func TestRules(t *testing.T) {
	key := Permission{"key", "write", "p/"}
	service := Permission{"service", "write", "s"}
	sessions := Permission{"session", "read", ""}
	session := Permission{"session", "write", "h1"}
	agent := Permission{"agent", "read", "h1"}
	for name, test := range map[string]struct {
		missing []Permission
		rules   []string
	}{
		"nothing": {nil, nil},
		"key":     {[]Permission{key}, []string{`key_prefix "p/" { policy = "write" }`}},
		"service": {[]Permission{service}, []string{`service "s" { policy = "write" }`}},
		"agent":   {[]Permission{agent}, []string{`agent_prefix "" { policy = "read" }`}},

		"sessions of others": {[]Permission{sessions}, []string{`session_prefix "" { policy = "read" }`}},
		"own session":        {[]Permission{session}, []string{`session "h1" { policy = "write" }`}},
		"all sessions":       {[]Permission{sessions, session}, []string{`session_prefix "" { policy = "write" }`}},

		"everything": {[]Permission{key, sessions, session, agent, service}, []string{
			`key_prefix "p/" { policy = "write" }`, `agent_prefix "" { policy = "read" }`,
			`service "s" { policy = "write" }`, `session_prefix "" { policy = "write" }`,
		}},
		// There is no rule for a session on a node without a known name.
		"the agent does not tell its name": {[]Permission{{"session", "write", ""}, {"agent", "read", ""}}, []string{
			`agent_prefix "" { policy = "read" }`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var rules []string
			for _, line := range Rules(test.missing) {
				_, rule, _ := strings.Cut(line, ": ")
				rules = append(rules, rule)
			}
			assert.Equal(t, test.rules, rules)
		})
	}
}

// journal is the log of a checker. It is safe for concurrent use.
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

// needed are the permissions of an instance.
var needed = []Permission{
	{"key", "write", "p/"}, {"session", "read", ""}, {"session", "write", "h1"}, {"agent", "read", "h1"}, {"service", "write", "s"},
}

// checked runs test with an ACL checker at work at the default log level.
func checked(t *testing.T, test func(f *simconsul.Consul, j *journal, a *ACLChecker)) {
	synctest.Test(t, func(t *testing.T) {
		f := simconsul.New(t)
		client, closeClient := f.Client(Transport)
		defer closeClient()
		j := new(journal)
		c := New(client, nil)
		defer c.Close()
		a := NewACLChecker(c, hclog.New(&hclog.LoggerOptions{Output: j}), needed)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = a.Run(ctx) })
		test(f, j, a)
		cancel()
		running.Wait()
	})
}

func TestMissingPermissionsAreLoggedOnce(t *testing.T) {
	const (
		keys    = `missing ACL permission: key_prefix "p/" { policy = "write" }`
		service = `missing ACL permission: service "s" { policy = "write" }`
	)
	checked(t, func(f *simconsul.Consul, j *journal, a *ACLChecker) {
		f.On(simconsul.Denying("key"))
		a.Check(needed)
		assert.Equal(t, []string{keys}, j.news())

		time.Sleep(time.Minute)
		a.client.denied.report(ErrConflict)
		assert.Empty(t, j.news(), "it was logged before")

		f.On(simconsul.Denying("key", "service"))
		time.Sleep(checkPause)
		assert.Equal(t, []string{service}, j.news(), "the new one")

		f.On(simconsul.Denying())
		time.Sleep(checkPause)
		assert.Equal(t, []string{"the ACL token now has all required permissions"}, j.news())
		time.Sleep(time.Minute)
		assert.Empty(t, j.news())

		f.On(simconsul.Denying("key"))
		a.client.denied.report(ErrConflict)
		assert.Equal(t, []string{keys}, j.news(), "once more: it had been granted")
	})
}

func TestTheTokenIsCheckedRarely(t *testing.T) {
	checked(t, func(f *simconsul.Consul, _ *journal, a *ACLChecker) {
		f.On(simconsul.Denying())
		for range 100 {
			a.client.denied.report(ErrConflict)
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, f.Count("POST "+authorizePath), 3)
		n := f.Count("POST " + authorizePath)
		time.Sleep(time.Hour)
		assert.LessOrEqual(t, f.Count("POST "+authorizePath), n+1, "without a refusal nothing is asked")
	})
}

func TestRefusalsThatConsulDoesNotExplain(t *testing.T) {
	forbidden := simconsul.Answer(403, "text/plain", "ACL not found")
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		want   []string
	}{
		"ACLs are off":     {simconsul.Only(authorizePath, simconsul.Answer(401, "text/plain", "ACL support disabled")), nil},
		"no leader":        {simconsul.Only(authorizePath, simconsul.Answer(500, "text/plain", "No cluster leader")), nil},
		"unknown token":    {forbidden, []string{"the ACL token is not known to Consul: it was deleted, has expired or is misspelt"}},
		"older Consul":     {simconsul.Only(authorizePath, simconsul.Answer(404, "text/plain", "")), []string{"the ACL token lacks a permission, and this Consul does not say which"}},
		"refused by proxy": {simconsul.Only(authorizePath, forbidden), []string{"the ACL token lacks a permission, and this Consul does not say which"}},
		"not an answer":    {simconsul.Only(authorizePath, simconsul.Answer(200, "application/json", "[]")), []string{"the ACL token lacks a permission, and this Consul does not say which"}},
	} {
		t.Run(name, func(t *testing.T) {
			checked(t, func(f *simconsul.Consul, j *journal, a *ACLChecker) {
				refuse := simconsul.Only("/v1/session/renew/", simconsul.Answer(403, "text/plain", "Permission denied"))
				f.On(func(w http.ResponseWriter, r *http.Request) bool { return test.answer(w, r) || refuse(w, r) })
				a.Check(needed)
				for range 3 {
					time.Sleep(checkPause)
					require.Error(t, a.client.RenewSession(context.Background(), "s"))
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
