package health

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/config"
)

// run runs a check once.
func run(t *testing.T, c config.Check) error {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return runOnce(t.Context(), c, tryOf(c, nil))
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		if code/100 == 3 {
			w.Header().Set("Location", "/status/200")
		}
		w.WriteHeader(code)
	})
	mux.HandleFunc("/pong", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ping? pong!") })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", maxBody)+"pong")
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "www.example.com" || r.Header.Get("X-Key") != "1" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := httptest.NewServer(mux)
	defer server.Close()
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	closed := httptest.NewServer(mux)
	closed.Close()

	for name, tc := range map[string]struct {
		url    string
		change func(*config.Check)
		reason string // empty: fit
	}{
		"200":                   {url: server.URL + "/status/200"},
		"204":                   {url: server.URL + "/status/204"},
		"500":                   {url: server.URL + "/status/500", reason: "status 500 Internal Server Error"},
		"404":                   {url: server.URL + "/status/404", reason: "status 404 Not Found"},
		"a redirect":            {url: server.URL + "/status/302", reason: "status 302 Found"},
		"an expected redirect":  {url: server.URL + "/status/302", change: func(c *config.Check) { c.ExpectStatus = 302 }},
		"another status":        {url: server.URL + "/status/200", change: func(c *config.Check) { c.ExpectStatus = 204 }, reason: "status 200 OK, expected 204"},
		"the text":              {url: server.URL + "/pong", change: func(c *config.Check) { c.ExpectText = "pong" }},
		"another text":          {url: server.URL + "/pong", change: func(c *config.Check) { c.ExpectText = "gone" }, reason: `the answer does not contain "gone"`},
		"the text comes late":   {url: server.URL + "/large", change: func(c *config.Check) { c.ExpectText = "pong" }, reason: "does not contain"},
		"headers":               {url: server.URL + "/header", change: func(c *config.Check) { c.Header = map[string]string{"host": "www.example.com", "X-Key": "1"} }},
		"no headers":            {url: server.URL + "/header", reason: "status 403"},
		"a hang":                {url: server.URL + "/hang", change: func(c *config.Check) { c.Timeout = 50 * time.Millisecond }, reason: "timed out after 50ms"},
		"refused":               {url: closed.URL, reason: "connect: connection refused"},
		"an unknown authority":  {url: secure.URL + "/status/200", reason: "certificate"},
		"any authority will do": {url: secure.URL + "/status/200", change: func(c *config.Check) { c.TLSSkipVerify = true }},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Check{HTTP: tc.url}
			if tc.change != nil {
				tc.change(&c)
			}
			err := run(t, c)
			if tc.reason == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.reason)
		})
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, run(t, config.Check{TCP: l.Addr().String()}))
	require.NoError(t, l.Close())
	require.EqualError(t, run(t, config.Check{TCP: l.Addr().String()}), "connect: connection refused")
}

// Package command has the rest of what a program may do.
func TestCommand(t *testing.T) {
	require.NoError(t, run(t, config.Check{Command: []string{"true"}}))
	require.EqualError(t, run(t, config.Check{Command: []string{"sh", "-c", "echo no disk; echo more; exit 3"}}), "exit status 3: no disk")
	began := time.Now()
	require.ErrorIs(t, run(t, config.Check{Command: []string{"sleep", "1000"}, Timeout: 500 * time.Millisecond}), errTimeout)
	require.Less(t, time.Since(began), 5*time.Second)
}
