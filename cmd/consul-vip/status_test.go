package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pair is a key in the JSON of Consul's API.
type pair struct {
	Key     string
	Value   []byte
	Session string `json:",omitempty"`
}

// kv is a fake Consul with locks in every state below web.
func kv(t *testing.T) *httptest.Server {
	return serveKV(t,
		pair{"web/.drain/h3", nil, ""},
		pair{"web/.members/h1", []byte(`{"node":"h1","vips":{"10.0.0.3":100,"10.0.0.4":100,"10.0.0.10":100}}`), "s1"},
		pair{"web/.members/h3", []byte(`{"node":"h3","vips":{"10.0.0.10":10,"10.0.0.5":10}}`), "s3"},
		pair{"web/10.0.0.10/.lock", []byte(`{"state":"held","node":"h1","interface":"eth0","mac":"02:00:00:00:00:01","alloc_id":"a","since":"2026-01-02T03:04:05Z","session":"s1"}`), "s1"},
		pair{"web/10.0.0.10/pin", []byte("h3\n"), ""},
		pair{"web/10.0.0.2/.lock", nil, "s2"},
		pair{"web/10.0.0.3/.lock", []byte(`{"state":"released","node":"h2","reason":"stopped"}`), ""},
		pair{"web/10.0.0.3/pin", []byte("h2"), ""},
		pair{"web/10.0.0.4/.lock", []byte(`{"state":"held","node":"h3","session":"gone"}`), ""},
		pair{"web/10.0.0.4/pin", []byte("-"), ""},
	)
}

// serveKV is a fake Consul with these keys and with one foreign session, s2.
func serveKV(t *testing.T, pairs ...pair) *httptest.Server {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("X-Consul-Index", "9")
		w.Header().Set("X-Consul-LastContact", "0")
		_ = json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("/v1/kv/web/", func(w http.ResponseWriter, _ *http.Request) { answer(w, pairs) })
	mux.HandleFunc("/v1/session/info/s2", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, []map[string]string{{"ID": "s2", "Name": "Consul lock for 'sleep\x1b[2J'", "Node": "h2"}})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestStatusJSON(t *testing.T) {
	s := kv(t)
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailure, run([]string{"status", "-prefix=/web/", "-json", "-http-addr=" + s.URL}, &stdout, &stderr))
	assert.Equal(t, "consul-vip: no owner: 10.0.0.3, 10.0.0.4, 10.0.0.5\n", stderr.String())
	h1 := `{"node":"h1","priority":100,"drained":false,"session":"s1"}`
	h3 := `{"node":"h3","priority":10,"drained":true,"session":"s3"}`
	assert.JSONEq(t, fmt.Sprintf(`[
		{"vip":"10.0.0.2","state":"foreign","node":"h2","session":"s2","members":[],"note":"Consul lock for 'sleep\u001b[2J'"},
		{"vip":"10.0.0.3","state":"free","pin":"h2","members":[%[1]s],"note":"released by h2: stopped; pinned to h2, which is not a member"},
		{"vip":"10.0.0.4","state":"free","pin":"-","members":[%[1]s],"note":"h3 stopped without releasing it; pinned to nobody"},
		{"vip":"10.0.0.5","state":"free","members":[%[2]s],"note":"all members are drained"},
		{"vip":"10.0.0.10","state":"held","node":"h1","interface":"eth0","mac":"02:00:00:00:00:01","alloc_id":"a","since":"2026-01-02T03:04:05Z",
			"session":"s1","pin":"h3","members":[%[1]s,%[2]s],"note":"pinned to h3, which is drained"}
	]`, h1, h3), stdout.String())
}

func TestStatusTable(t *testing.T) {
	s := kv(t)
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailure, run([]string{"status", "-prefix=web", "-http-addr=" + s.URL}, &stdout, &stderr))
	assert.Regexp(t, `(?m)^10\.0\.0\.2 +foreign +h2 +- +- +- +s2 +- +Consul lock for 'sleep \[2J'$`, stdout.String())
	assert.Regexp(t, `(?m)^10\.0\.0\.5 +free +- +- +- +- +- +h3:10\(drained\) +all members are drained$`, stdout.String())
	assert.Regexp(t, `(?m)^10\.0\.0\.10 +held +h1 +eth0 +02:00:00:00:00:01 +2026-01-02T03:04:05Z +s1 +h1:100 h3:10\(drained\) +pinned to h3`, stdout.String())
	assert.NotContains(t, stdout.String(), "\x1b")
}

// The environment that configures an agent also tells the commands where to look. Flags win.
func TestStatusByEnvironment(t *testing.T) {
	s := serveKV(t, pair{"web/10.0.0.1/.lock", []byte(`{"state":"held","node":"h1","session":"s1"}`), "s1"})
	t.Setenv("CONSUL_VIP_CONSUL_PREFIX", "/web/")
	t.Setenv("CONSUL_VIP_CONSUL_ADDRESS", s.URL)
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitOK, run([]string{"status"}, &stdout, &stderr), &stderr)
	assert.Contains(t, stdout.String(), "10.0.0.1")

	assert.Equal(t, exitFailure, run([]string{"status", "-prefix=other"}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "other/")
	assert.Equal(t, exitFailure, run([]string{"status", "-http-addr=127.0.0.1:2"}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "127.0.0.1:2")

	t.Setenv("CONSUL_VIP_CONSUL_PREFIX", "a//b")
	assert.Equal(t, exitConfig, run([]string{"status"}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "CONSUL_VIP_CONSUL_PREFIX: Error: ")
}

func TestStatusWithAnOwnerForEach(t *testing.T) {
	s := serveKV(t, pair{"web/10.0.0.1/.lock", []byte(`{"state":"held","node":"h1","session":"s1"}`), "s1"})
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitOK, run([]string{"status", "-prefix=web", "-http-addr=" + s.URL}, &stdout, &stderr))
	assert.Empty(t, stderr.String())
}

// Without permission to read sessions, the row only lacks the name of the foreign
// session.
func TestStatusWithoutSessions(t *testing.T) {
	mux := http.NewServeMux()
	behind := kv(t)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, behind.URL+r.URL.RequestURI(), http.StatusFound)
	})
	mux.HandleFunc("/v1/session/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Permission denied", http.StatusForbidden)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailure, run([]string{"status", "-prefix=web", "-http-addr=" + s.URL}, &stdout, &stderr))
	assert.Regexp(t, `(?m)^10\.0\.0\.2 +foreign +- +- +- +- +s2 +-$`, stdout.String())
}

// A terminal gets colours, unless its user has turned them off.
func TestStatusColours(t *testing.T) {
	s := kv(t)
	for name, tt := range map[string]struct {
		env  map[string]string
		want bool
	}{
		"as usual":      {map[string]string{"TERM": "xterm", "NO_COLOR": ""}, true},
		"NO_COLOR":      {map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, false},
		"dumb terminal": {map[string]string{"TERM": "dumb", "NO_COLOR": ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			shown := onTerminal(t, func(terminal *os.File) {
				run([]string{"status", "-prefix=web", "-http-addr=" + s.URL}, terminal, &bytes.Buffer{})
			})
			if !tt.want {
				assert.NotContains(t, shown, "\x1b")
				return
			}
			for _, want := range []string{red + "free" + plain, green + "held" + plain, yellow + "foreign" + plain} {
				assert.Contains(t, shown, want)
			}
		})
	}
}

// onTerminal returns the bytes that a terminal receives from write.
func onTerminal(t *testing.T, write func(terminal *os.File)) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer master.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	go func() {
		defer terminal.Close()
		write(terminal)
	}()
	// Reading fails once write has closed the terminal: no other process has it open.
	var shown strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		shown.Write(buf[:n])
		if err != nil {
			return shown.String()
		}
	}
}
