// Package simconsul is as much of Consul's HTTP API as package lease and its rooms
// use, over in-memory connections, so that tests run in a synctest bubble with its
// fake time. The integration tests are for the real Consul; this one answers at the
// wrong moment, or wrongly, when told to.
package simconsul

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

// Consul is one fake Consul. Create it with [New] inside the bubble, and end it with
// the function that [Consul.Client] returns. Its methods are safe for concurrent use.
type Consul struct {
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
func New(t *testing.T) *Consul {
	c := &Consul{
		t:        t,
		listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
		index:    10,
		keys:     map[string]*api.KVPair{},
		sessions: map[string]string{},
	}
	c.server = &http.Server{Handler: c}
	go func() { _ = c.server.Serve(c.listener) }()
	return c
}

// Client returns a client, and a function that ends it and the server; call that
// before the bubble ends. Wrap wraps the client's transport.
func (c *Consul) Client(wrap func(http.RoundTripper) http.RoundTripper) (*api.Client, func()) {
	client, closeIdle := c.NewClient(wrap)
	return client, func() {
		closeIdle()
		_ = c.server.Close()
	}
}

// NewClient returns another client, and a function that ends it but not the server.
func (c *Consul) NewClient(wrap func(http.RoundTripper) http.RoundTripper) (client *api.Client, closeIdle func()) {
	transport := &http.Transport{
		MaxConnsPerHost: maxConns,
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.listener.dial(ctx) },
	}
	client, err := api.NewClient(&api.Config{
		Address: "consul.test", Scheme: "http", Transport: transport,
		HttpClient: &http.Client{Transport: wrap(transport)},
	})
	require.NoError(c.t, err)
	return client, transport.CloseIdleConnections
}

// On gives each request to intercept first, which may answer it itself and return
// true. Nil ends that.
func (c *Consul) On(intercept func(w http.ResponseWriter, r *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intercept = intercept
}

// OrHang replaces a missing answer by none at all.
func (c *Consul) OrHang(answer func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	if answer != nil {
		return answer
	}
	return func(http.ResponseWriter, *http.Request) bool {
		<-c.listener.closed // the server does not see a client go that has sent a body
		return true
	}
}

// Delay runs after once a request has been served, before its answer is written; it
// may hang to delay the answer.
func (c *Consul) Delay(after func(r *http.Request)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.after = after
}

// Count says how many requests began with "METHOD /path".
func (c *Consul) Count(prefix string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// Get returns a key, or nil.
func (c *Consul) Get(key string) *api.KVPair {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[key]
}

// Put writes as a plain `kv put` does: the session stays on the key.
func (c *Consul) Put(key, value, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &api.KVPair{Key: key, Value: []byte(value), Session: session}
	if old := c.keys[key]; old != nil && session == "" {
		p.Session = old.Session
	}
	c.write(p)
}

// Delete deletes a key.
func (c *Consul) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, key)
	c.bump()
}

// Sessions lists the sessions that there are.
func (c *Consul) Sessions() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.sessions))
}

// Begin starts a session with this id and name, as another client would.
func (c *Consul) Begin(id, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[id] = name
}

// Advance moves the index forward, as writes elsewhere do.
func (c *Consul) Advance(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index = index
}

// Replace puts servers without keys and sessions, and with another index, in the
// place of the old ones.
func (c *Consul) Replace(index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.keys)
	clear(c.sessions)
	c.index = index
	c.bump()
}

// Destroy ends a session, which frees its keys.
func (c *Consul) Destroy(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, id)
	for _, p := range c.keys {
		if p.Session == id {
			q := *p
			q.Session = ""
			c.write(&q)
		}
	}
	c.bump()
}

func (c *Consul) write(p *api.KVPair) {
	c.bump()
	c.store(p)
}

func (c *Consul) store(p *api.KVPair) {
	p.ModifyIndex = c.index
	c.keys[p.Key] = p
}

func (c *Consul) bump() {
	c.index++
	c.changed.Set(struct{}{})
}
