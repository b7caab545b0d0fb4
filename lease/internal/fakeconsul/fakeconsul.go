// Package fakeconsul is as much of Consul's HTTP API as package lease and its rooms
// use, over in-memory connections, so that tests run in a synctest bubble with its
// fake time. The integration tests are for the real Consul; this one answers at the
// wrong moment, or wrongly, when told to.
package fakeconsul

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// AuthorizePath is where Consul tells what an ACL token may do.
const AuthorizePath = "/v1/internal/acl/authorize"

// maxConns is the most connections that a process may use.
const maxConns = 5

// Fake is one fake Consul. Create it with [New] inside the bubble, and end it with
// the function that [Fake.Client] returns. Its methods are safe for concurrent use.
type Fake struct {
	t        *testing.T
	listener *pipeListener
	server   *http.Server
	changed  latest.Latest[struct{}] // set after every change of the index

	mu       sync.Mutex // guards all following fields
	index    uint64
	keys     map[string]*api.KVPair
	sessions map[string]string // the names by id
	requests []string
	// intercept may answer a request itself (true), or let it be served; after runs
	// when the request has been served, before the answer is written. Both run without
	// mu and may hang.
	intercept func(w http.ResponseWriter, r *http.Request) bool
	after     func(r *http.Request)
}

// New starts a Consul without keys and sessions.
func New(t *testing.T) *Fake {
	f := &Fake{
		t:        t,
		listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
		index:    10,
		keys:     map[string]*api.KVPair{},
		sessions: map[string]string{},
	}
	f.server = &http.Server{Handler: f}
	go func() { _ = f.server.Serve(f.listener) }()
	return f
}

// Client returns a client, and a function that ends it and the server; call that
// before the bubble ends. Wrap wraps the client's transport.
func (f *Fake) Client(wrap func(http.RoundTripper) http.RoundTripper) (*api.Client, func()) {
	client, closeIdle := f.NewClient(wrap)
	return client, func() {
		closeIdle()
		_ = f.server.Close()
	}
}

// NewClient returns another client, and a function that ends it but not the server.
func (f *Fake) NewClient(wrap func(http.RoundTripper) http.RoundTripper) (client *api.Client, closeIdle func()) {
	transport := &http.Transport{
		MaxConnsPerHost: maxConns,
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return f.listener.dial(ctx) },
	}
	client, err := api.NewClient(&api.Config{
		Address: "consul.test", Scheme: "http", Transport: transport,
		HttpClient: &http.Client{Transport: wrap(transport)},
	})
	require.NoError(f.t, err)
	return client, transport.CloseIdleConnections
}

// On gives each request to intercept first, which may answer it itself and return
// true. Nil ends that.
func (f *Fake) On(intercept func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = intercept
}

// OrHang replaces a missing answer by none at all.
func (f *Fake) OrHang(answer func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	if answer != nil {
		return answer
	}
	return func(http.ResponseWriter, *http.Request) bool {
		<-f.listener.closed // the server does not see a client go that has sent a body
		return true
	}
}

// Delay runs after once a request has been served, before its answer is written; it
// may hang to delay the answer.
func (f *Fake) Delay(after func(r *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = after
}

// Count says how many requests began with "METHOD /path".
func (f *Fake) Count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// Get returns a key, or nil.
func (f *Fake) Get(key string) *api.KVPair {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[key]
}

// Put writes as a plain `kv put` does: the session stays on the key.
func (f *Fake) Put(key, value, session string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &api.KVPair{Key: key, Value: []byte(value), Session: session}
	if old := f.keys[key]; old != nil && session == "" {
		p.Session = old.Session
	}
	f.write(p)
}

// Delete deletes a key.
func (f *Fake) Delete(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, key)
	f.bump()
}

// Sessions lists the sessions that there are.
func (f *Fake) Sessions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.sessions))
}

// Begin starts a session with this id and name, as another client would.
func (f *Fake) Begin(id, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[id] = name
}

// Advance moves the index forward, as writes elsewhere do.
func (f *Fake) Advance(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index = index
}

// Replace puts servers without keys and sessions, and with another index, in the
// place of the old ones.
func (f *Fake) Replace(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.keys)
	clear(f.sessions)
	f.index = index
	f.bump()
}

// Destroy ends a session, which frees its keys.
func (f *Fake) Destroy(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, id)
	for _, p := range f.keys {
		if p.Session == id {
			q := *p
			q.Session = ""
			f.write(&q)
		}
	}
	f.bump()
}

func (f *Fake) write(p *api.KVPair) {
	f.bump()
	f.store(p)
}

func (f *Fake) store(p *api.KVPair) {
	p.ModifyIndex = f.index
	f.keys[p.Key] = p
}

func (f *Fake) bump() {
	f.index++
	f.changed.Set(struct{}{})
}
