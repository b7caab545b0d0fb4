package consul

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// tokenFile sends requests with the ACL token that is in a file at the time, so
// that a token can be replaced while the process runs. A file that is gone or
// empty changes nothing. It is safe for concurrent use.
type tokenFile struct {
	path    string
	base    http.RoundTripper
	log     hclog.Logger
	changed latest.Wake // set after the token has changed

	mu     sync.Mutex // guards all following fields
	token  string
	failed bool // the last read found no token
}

// newTokenFile returns an error where the file cannot be read.
func newTokenFile(path string, base http.RoundTripper, log hclog.Logger) (*tokenFile, error) {
	token, err := readToken(path)
	if err != nil {
		return nil, err
	}
	if token == "" {
		log.Warn("the ACL token file is empty, sending requests without a token", "file", path)
	}
	return &tokenFile{path: path, base: base, log: log, changed: latest.NewWake(), token: token}, nil
}

func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the ACL token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// RoundTrip implements [http.RoundTripper].
func (t *tokenFile) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if token := t.current(); token != "" {
		r.Header.Set("X-Consul-Token", token)
	}
	return t.base.RoundTrip(r)
}

// current reads the file for every request: that is cheap, and the file's times
// are too coarse to tell whether it has changed.
func (t *tokenFile) current() string {
	token, err := readToken(t.path)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil || token == "":
		if !t.failed && t.token != "" {
			t.log.Warn("the ACL token file has no token, keeping the last one", "file", t.path, "error", err)
		}
		t.failed = true
	case token != t.token:
		t.log.Info("the ACL token has changed", "file", t.path)
		t.token, t.failed = token, false
		t.changed.Set()
	default:
		t.failed = false
	}
	return t.token
}
