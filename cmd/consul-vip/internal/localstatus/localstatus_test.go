package localstatus_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/localstatus"
)

// source is a process with a status, or a reason why there is none.
type source struct {
	status *localstatus.Status
	err    error
	hangs  bool
}

func (s source) Status(ctx context.Context) (*localstatus.Status, error) {
	if s.hangs {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return s.status, s.err
}

var since = time.Date(2026, 11, 22, 5, 11, 37, 0, time.UTC)

func example() *localstatus.Status {
	return &localstatus.Status{
		Node: "h1", Version: "1.2.3", Prefix: "consul-vip", Started: since,
		Consul: localstatus.Consul{FailingSince: &since, Error: "refused", Session: "cdf2f1b7", HoldLeft: localstatus.Left(8500 * time.Millisecond)},
		Addresses: []localstatus.Address{{
			VIP: "10.77.0.100", State: "active", Since: &since, Interface: "eth0", Lock: "held", Owner: "h1",
			HoldLeft: localstatus.Left(8500 * time.Millisecond), LifetimeLeft: localstatus.Left(-time.Second), Eligible: true,
		}},
		Checks: []localstatus.Check{}, HostChecks: []localstatus.HostCheck{}, Transitions: []localstatus.Transition{},
	}
}

func TestHandler(t *testing.T) {
	for name, test := range map[string]struct {
		source       source
		method, path string
		code         int
		body         string
	}{
		"status":      {source{status: example()}, "GET", "/v1/status", 200, `"hold_left_ms": 8500`},
		"time is up":  {source{status: example()}, "GET", "/v1/status", 200, `"lifetime_left_ms": 0`},
		"read only":   {source{status: example()}, "POST", "/v1/status", 405, ""},
		"other paths": {source{status: example()}, "GET", "/v1/status/x", 404, ""},
		"no status":   {source{err: errors.New("the agent is ending")}, "GET", "/v1/status", 503, "no status: the agent is ending"},
		"it hangs":    {source{hangs: true}, "GET", "/v1/status", 503, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			localstatus.Handler(test.source).ServeHTTP(w, httptest.NewRequest(test.method, test.path, nil))
			assert.Equal(t, test.code, w.Code)
			assert.Contains(t, w.Body.String(), test.body)
		})
	}
}

// serve answers at a socket until the end of the test, or until stop.
func serve(t *testing.T, path string, s localstatus.Source) (stop func()) {
	t.Helper()
	l, err := localstatus.Listen(t.Context(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- localstatus.Serve(ctx, l, localstatus.Handler(s), hclog.NewNullLogger()) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestGet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	_, err := localstatus.Get(t.Context(), path)
	require.ErrorIs(t, err, localstatus.ErrNoAgent)

	stop := serve(t, path, source{status: example()})
	for range 10 { // more than may be connected at once
		s, err := localstatus.Get(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, example(), s)
	}
	stop()
	require.NoFileExists(t, path)
	_, err = localstatus.Get(t.Context(), path)
	require.ErrorIs(t, err, localstatus.ErrNoAgent)
}

func TestGetNoStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	serve(t, path, source{err: errors.New("the agent is ending")})
	_, err := localstatus.Get(t.Context(), path)
	require.ErrorContains(t, err, "503 Service Unavailable: no status: the agent is ending")
}

// A process that listens and does not answer, because it is frozen for example.
func TestGetNoAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := localstatus.Listen(t.Context(), path)
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("timed out"))
	defer cancel()
	_, err = localstatus.Get(ctx, path)
	require.ErrorContains(t, err, path+": timed out")
}

// The socket is its owner's alone, whatever the umask.
func TestListenIsPrivate(t *testing.T) {
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := localstatus.Listen(t.Context(), path)
	require.NoError(t, err)
	defer l.Close()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o600, info.Mode())
}

// stale leaves the socket of a process that has ended.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.NoError(t, os.Chmod(path, 0o666))
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	stale(t, path)
	_, err := localstatus.Get(t.Context(), path)
	require.ErrorIs(t, err, localstatus.ErrNoAgent)
	serve(t, path, source{status: example()})
	_, err = localstatus.Get(t.Context(), path)
	require.NoError(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o600, info.Mode())
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")

	serve(t, path, source{status: example()})
	_, err := localstatus.Listen(t.Context(), path)
	require.ErrorIs(t, err, localstatus.ErrInUse)
	_, err = localstatus.Get(t.Context(), path)
	require.NoError(t, err, "the first one goes on")

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	_, err = localstatus.Listen(t.Context(), file)
	require.ErrorContains(t, err, "is no socket")
	require.FileExists(t, file)

	_, err = localstatus.Listen(t.Context(), filepath.Join(dir, "missing", "a.sock"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Of many that start at once in place of one that has ended, one gets the socket.
func TestListenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	stale(t, path)
	const many = 8
	results := make(chan error, many)
	listeners := make(chan net.Listener, many)
	for range many {
		go func() {
			l, err := localstatus.Listen(t.Context(), path)
			if err == nil {
				listeners <- l
			}
			results <- err
		}()
	}
	got := 0
	for range many {
		if err := <-results; err == nil {
			got++
		} else {
			assert.ErrorIs(t, err, localstatus.ErrInUse)
		}
	}
	require.Equal(t, 1, got)
	conn, err := net.Dial("unix", path)
	require.NoError(t, err, "the socket is the one that listens")
	conn.Close()
	(<-listeners).Close()
}

// Clients that say nothing, or too much, keep nobody out for long.
func TestServeIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	serve(t, path, source{status: example()})
	for range 6 { // more than may be connected at once
		conn, err := net.Dial("unix", path)
		require.NoError(t, err)
		defer conn.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := localstatus.Get(ctx, path)
	require.NoError(t, err)

	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://local/v1/status", nil)
	require.NoError(t, err)
	req.Header.Set("X-Long", strings.Repeat("x", 20<<10))
	resp, err := client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}
