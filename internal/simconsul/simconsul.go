// Package simconsul is a simulated Consul, so that tests run in a synctest bubble with
// its fake time.
//
//   - A [Cluster] is one as it is in production: servers that replicate one store, and
//     a client agent on each host. It has latency, and faults: no leader, agents that
//     die, freeze or are cut off, requests and answers that are lost or late, a history
//     that goes back.
//   - A [Consul] is a cluster without latency, of one host, for unit tests. A test can
//     answer single requests itself.
//
// Both do what Consul 1.22.3 does with the requests that consul-vip sends, and with
// those of its operators. [Conformity] is a table of requests and answers, which a test
// of this package runs against the simulation and one in integration against a real
// Consul.
package simconsul

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"
)

// Consul is a cluster of one host, whose requests take no time. Create it with [New]
// inside the bubble, and end it with the function that [Consul.Client] returns. Its
// methods are safe for concurrent use.
type Consul struct {
	*Cluster
	t      *testing.T
	agent  *Agent
	closed chan struct{}

	mu       sync.Mutex // guards all following fields
	requests []string
	// intercept may answer a request itself (true), or let it be served; after runs
	// when the request has been served, before the answer is written. Both run without
	// mu and may hang.
	intercept func(w http.ResponseWriter, r *http.Request) bool
	after     func(r *http.Request)
}

// New starts a Consul without keys and sessions. Its host is h1.
func New(t *testing.T) *Consul {
	c := &Consul{t: t, Cluster: NewCluster(Config{Rand: rand.New(rand.NewPCG(1, 2)), Instant: true}), closed: make(chan struct{})}
	c.agent = c.Agent("h1")
	return c
}

// Client returns a client, and a function that ends it and the server; call that
// before the bubble ends. Wrap wraps the client's transport.
func (c *Consul) Client(wrap func(http.RoundTripper) http.RoundTripper) (*api.Client, func()) {
	client, closeIdle := c.NewClient(wrap)
	return client, func() {
		closeIdle()
		close(c.closed)
		c.Close()
	}
}

// NewClient returns another client, and a function that ends it but not the server.
func (c *Consul) NewClient(wrap func(http.RoundTripper) http.RoundTripper) (client *api.Client, closeIdle func()) {
	t := &interceptor{consul: c, conns: make(chan struct{}, maxConns)}
	client, err := api.NewClient(&api.Config{
		Address: "consul.test", Scheme: "http", Transport: &http.Transport{}, HttpClient: &http.Client{Transport: wrap(t)},
	})
	require.NoError(c.t, err)
	return client, func() {}
}

// yields is how often the answer to a write steps back behind other goroutines.
const yields = 50

// interceptor is one process's connections to a [Consul].
type interceptor struct {
	consul *Consul
	conns  chan struct{}
}

// RoundTrip implements [http.RoundTripper].
func (i *interceptor) RoundTrip(r *http.Request) (*http.Response, error) {
	q, err := read(r)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	select {
	case i.conns <- struct{}{}:
		defer func() { <-i.conns }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if q.Method != http.MethodGet { // the server does not see a client go that has sent a body
		ctx = i.consul.ctx
	}
	served := r.Clone(ctx)
	served.Body = io.NopCloser(bytes.NewReader(q.Body))
	done := make(chan *answer, 1)
	if !i.consul.start(func() { done <- i.consul.serve(ctx, q, served) }) {
		return nil, errReset
	}
	select {
	case answer := <-done:
		if answer == nil {
			return nil, errReset
		}
		return answer.response(r), nil
	case <-i.consul.closed:
		return nil, errReset
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// serve answers a request, or lets the test do so. The answer is nil if that panics
// with [http.ErrAbortHandler], which breaks the connection.
func (c *Consul) serve(ctx context.Context, q Request, r *http.Request) (served *answer) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	c.mu.Lock()
	c.requests = append(c.requests, q.Method+" "+q.Path)
	intercept := c.intercept
	c.mu.Unlock()
	if intercept != nil {
		w := httptest.NewRecorder()
		if intercept(w, r) {
			return &answer{w.Code, w.Header(), w.Body.Bytes()}
		}
	}
	answer := c.handle(ctx, q)
	c.mu.Lock()
	after := c.after
	c.mu.Unlock()
	if q.Method != http.MethodGet {
		for range yields { // so that the watches usually hear of a write before its writer
			runtime.Gosched()
		}
	}
	if after != nil {
		r.Body = io.NopCloser(bytes.NewReader(q.Body))
		after(r)
	}
	return answer
}

// handle serves a request. The answer is nil if the server has ended.
func (c *Consul) handle(ctx context.Context, q Request) *answer {
	c.Cluster.mu.Lock()
	run := c.agent.run
	c.Cluster.mu.Unlock()
	if run == nil {
		return nil
	}
	return c.agent.handle(ctx, run, q)
}

// Serve serves a request that comes late, without an answer to anybody.
func (c *Consul) Serve(r *http.Request) {
	q, err := read(r)
	require.NoError(c.t, err)
	c.handle(c.ctx, q)
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
		<-c.closed
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

// Put writes as a plain `kv put` does: the session stays on the key. A session that is
// not empty is put on the key, also if it does not exist.
func (c *Consul) Put(key, value, session string) {
	c.must(func(s *store) {
		s.set(api.KVPair{Key: key, Value: []byte(value), Session: session}, session != "", "put")
	})
}

// must commits something that cannot be refused.
func (c *Consul) must(write func(*store)) {
	require.NoError(c.t, c.write(func(s *store) string { write(s); return "" }))
}

// Delete deletes a key.
func (c *Consul) Delete(key string) { require.NoError(c.t, c.Cluster.Delete(key)) }

// Sessions lists the ids of the sessions that there are.
func (c *Consul) Sessions() (ids []string) {
	for _, n := range c.Cluster.Sessions() {
		ids = append(ids, n.ID)
	}
	return ids
}

// Begin starts a session with this id and name, as another client would. It has no TTL.
func (c *Consul) Begin(id, name string) {
	_, err := c.CreateSession(named(id, name))
	require.NoError(c.t, err)
}

func named(id, name string) Session { return Session{ID: id, Name: name, Node: "h1"} }

// Destroy ends a session, which frees its keys.
func (c *Consul) Destroy(id string) { require.NoError(c.t, c.DestroySession(id)) }

// Advance moves the index forward, as writes elsewhere do.
func (c *Consul) Advance(index uint64) {
	c.must(func(s *store) { s.index = index })
}

// Replace puts servers without keys, with another index and no sessions but these, in
// the place of the old ones.
func (c *Consul) Replace(index uint64, sessions ...string) {
	s := newStore(index)
	s.kvIndex = index
	c.agent.register(s)
	for _, id := range sessions {
		require.Empty(c.t, s.begin(&session{Session: named(id, "consul-vip"), behavior: api.SessionBehaviorRelease, nodeChecks: []string{serfHealth}}))
	}
	require.NoError(c.t, c.Restore(Snapshot{s}))
}
