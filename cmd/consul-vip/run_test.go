package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.hcl")
	require.NoError(t, os.WriteFile(good, []byte(`vip "10.77.0.100" {}`), 0o600))
	bad := filepath.Join(dir, "bad.hcl")
	require.NoError(t, os.WriteFile(bad, []byte("vip \"10.77.0.100\" {\n  interfase = \"eth0\"\n}\n"), 0o600))

	tests := map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"no command":            {nil, exitUsage, "", "Usage: consul-vip"},
		"unknown command":       {[]string{"agnet"}, exitUsage, "", `no command "agnet"`},
		"--version":             {[]string{"--version"}, exitOK, "consul-vip ", ""},
		"help":                  {[]string{"--help"}, exitOK, "Usage: consul-vip", ""},
		"version":               {[]string{"version"}, exitOK, "consul-vip ", ""},
		"agent help":            {[]string{"agent", "-h"}, exitOK, "-config", ""},
		"agent without config":  {[]string{"agent"}, exitUsage, "", "-config=FILE|DIR"},
		"agent, stray argument": {[]string{"agent", "-config=" + good, "stray"}, exitUsage, "", `"stray"`},
		"agent, unknown flag":   {[]string{"agent", "-confg=x"}, exitUsage, "", "-confg"},
		"agent, bad config":     {[]string{"agent", "--config", bad}, exitConfig, "", "bad.hcl:2:3"},
		"agent, no such config": {[]string{"agent", "-config=" + dir + "/none.hcl"}, exitConfig, "", "none.hcl"},
		"validate":              {[]string{"validate", good}, exitOK, "1 VIP", ""},
		"validate nothing":      {[]string{"validate"}, exitUsage, "", "needs a file"},
		"validate bad":          {[]string{"validate", bad}, exitConfig, "", `Did you mean "interface"?`},
		"status, unknown flag":  {[]string{"status", "-jsn"}, exitUsage, "", "-jsn"},
		"status, no Consul":     {[]string{"status", "-http-addr=127.0.0.1:1"}, exitFailure, "", "refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, test.code, run(test.args, &stdout, &stderr))
			assert.Contains(t, stdout.String(), test.stdout)
			assert.Contains(t, stderr.String(), test.stderr)
			if test.stdout == "" {
				assert.Empty(t, stdout.String())
			}
			if test.stderr == "" {
				assert.Empty(t, stderr.String())
			}
		})
	}
}

// An ordinary user is told of the missing capabilities first.
func TestRunCannotServe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vip.hcl")
	require.NoError(t, os.WriteFile(file, []byte(`vip "10.77.0.100" { interface = "no-such-link" }`), 0o600))
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitFailure, run([]string{"agent", "-config=" + file}, &stdout, &stderr))
	assert.Regexp(t, "no-such-link|CAP_NET_ADMIN", stderr.String())
	assert.Empty(t, stdout.String())
}

func TestExitCode(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("outer: %w", err) }
	for err, code := range map[error]int{
		nil:                          exitOK,
		flag.ErrHelp:                 exitOK,
		errors.New("other"):          exitFailure,
		wrap(usageError("wrong")):    exitUsage,
		wrap(&config.Error{}):        exitConfig,
		wrap(lease.ErrLockLost):      exitLost,
		wrap(lease.ErrSessionLost):   exitLost,
		wrap(agent.ErrAddressLost):   exitLost,
		wrap(&agent.ConflictError{}): exitConflict,
		// The address could not be kept in peace; that Consul was silent too is why
		// it was not defended.
		errors.Join(&agent.ConflictError{}, errors.New("no answer")): exitConflict,
	} {
		assert.Equal(t, code, exitCode(err), "%v", err)
	}
}

// kv answers like Consul with one lock held by us, one by a foreign session,
// and free ones.
func kv(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/kv/web/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "9")
		w.Header().Set("X-Consul-LastContact", "0")
		type pair struct {
			Key     string
			Value   []byte
			Session string `json:",omitempty"`
		}
		_ = json.NewEncoder(w).Encode([]pair{
			{"web/.members/h1", []byte(`{"node":"h1"}`), "s1"},
			{"web/10.0.0.10/.lock", []byte(`{"state":"held","node":"h1","interface":"eth0","mac":"02:00:00:00:00:01","since":"2026-01-02T03:04:05Z","session":"s1"}`), "s1"},
			{"web/10.0.0.2/.lock", nil, "s2"},
			{"web/10.0.0.3/.lock", []byte(`{"state":"released","node":"h2","reason":"stopped"}`), ""},
			{"web/10.0.0.4/.lock", []byte(`{"state":"held","node":"h3","session":"gone"}`), ""},
		})
	})
	mux.HandleFunc("/v1/session/info/s2", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", "9")
		w.Header().Set("X-Consul-LastContact", "0")
		_, _ = w.Write([]byte(`[{"ID":"s2","Name":"Consul lock for 'sleep'","Node":"h2"}]`))
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestStatus(t *testing.T) {
	s := kv(t)
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run([]string{"status", "-prefix=web", "-json", "-http-addr=" + s.URL}, &stdout, &stderr), stderr.String())
	assert.JSONEq(t, `[
		{"vip":"10.0.0.2","state":"foreign","node":"h2","session":"s2","note":"Consul lock for 'sleep'"},
		{"vip":"10.0.0.3","state":"free","note":"released by h2: stopped"},
		{"vip":"10.0.0.4","state":"free","note":"h3 ended without releasing it"},
		{"vip":"10.0.0.10","state":"held","node":"h1","interface":"eth0","mac":"02:00:00:00:00:01","since":"2026-01-02T03:04:05Z","session":"s1"}
	]`, stdout.String())

	stdout.Reset()
	require.Equal(t, exitOK, run([]string{"status", "-prefix=web", "-http-addr=" + s.URL}, &stdout, &stderr))
	assert.Regexp(t, `(?m)^10\.0\.0\.2 +foreign +h2 .*Consul lock for 'sleep'$`, stdout.String())
	assert.Regexp(t, `(?m)^10\.0\.0\.10 +held +h1 +eth0 +02:00:00:00:00:01 +2026-01-02T03:04:05Z +s1`, stdout.String())
}
