// Package fakeconsul is as much of Consul's HTTP API as package lease and its rooms
// use, over in-memory connections, so that tests run in a synctest bubble with its
// fake time. The integration tests are for the real Consul; this one answers at the
// wrong moment, or wrongly, when told to.
package fakeconsul

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"
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

	mu       sync.Mutex // guards all following fields
	index    uint64
	changed  chan struct{} // closed at the next change of the index
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
		changed:  make(chan struct{}),
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
	close(f.changed)
	f.changed = make(chan struct{})
}

// ServeHTTP implements [http.Handler].
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	intercept := f.intercept
	f.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	answer := f.handle(r)
	f.mu.Lock()
	after, index := f.after, f.index
	f.mu.Unlock()
	if after != nil {
		after(r)
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	w.Header().Set("X-Consul-LastContact", "0")
	w.WriteHeader(answer.status)
	_ = json.NewEncoder(w).Encode(answer.body)
}

// Serve serves a request that comes late, without an answer to anybody.
func (f *Fake) Serve(r *http.Request) { f.handle(r) }

type answer struct {
	status int
	body   any
}

func (f *Fake) handle(r *http.Request) answer {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch {
	case path == "agent/self":
		return answer{200, map[string]any{"Config": map[string]any{"NodeName": "h1"}}}
	case strings.HasPrefix(path, "agent/"):
		return answer{200, nil}
	case strings.HasPrefix(path, "session/"):
		return f.serveSession(strings.TrimPrefix(path, "session/"), r)
	case path == "txn":
		return f.serveTxn(r)
	case r.URL.Path == AuthorizePath:
		return answer{401, "ACL support disabled"}
	case strings.HasPrefix(path, "kv/"):
		return f.serveKV(strings.TrimPrefix(path, "kv/"), r)
	}
	return answer{500, "fake: " + path}
}

func (f *Fake) serveSession(path string, r *http.Request) answer {
	verb, id, _ := strings.Cut(path, "/")
	var body struct{ Name string }
	if verb == "create" {
		_ = json.NewDecoder(r.Body).Decode(&body)
	}
	if verb == "destroy" {
		f.Destroy(id)
		return answer{200, true}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case verb == "create":
		id = fmt.Sprintf("session-%d", f.index)
		f.bump()
		f.sessions[id] = cmp.Or(body.Name, "unnamed") // an interception may have read the body
		return answer{200, map[string]string{"ID": id}}
	case f.sessions[id] != "":
		return answer{200, []any{map[string]any{"ID": id, "Name": f.sessions[id], "Node": "h1"}}}
	case verb == "renew":
		return answer{404, nil}
	}
	return answer{200, []any{}} // info
}

func (f *Fake) serveKV(key string, r *http.Request) answer {
	q := r.URL.Query()
	if _, recurse := q["recurse"]; !recurse {
		if p := f.Get(key); p != nil {
			return answer{200, []*api.KVPair{p}}
		}
		return answer{404, nil}
	}
	index, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, _ := time.ParseDuration(q.Get("wait"))
	f.block(r.Context(), index, wait)
	f.mu.Lock()
	defer f.mu.Unlock()
	pairs := []*api.KVPair{}
	for k, p := range f.keys {
		if strings.HasPrefix(k, key) {
			pairs = append(pairs, p)
		}
	}
	if len(pairs) == 0 {
		return answer{404, nil}
	}
	slices.SortFunc(pairs, func(a, b *api.KVPair) int { return strings.Compare(a.Key, b.Key) })
	return answer{200, pairs}
}

// block waits as a blocking query does.
func (f *Fake) block(ctx context.Context, index uint64, wait time.Duration) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		now, changed := f.index, f.changed
		f.mu.Unlock()
		if now > index {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (f *Fake) serveTxn(r *http.Request) answer {
	var ops []struct{ KV *api.KVTxnOp }
	if err := json.NewDecoder(r.Body).Decode(&ops); err != nil {
		return answer{400, err.Error()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	unlocked := map[string]bool{}
	for i, op := range ops {
		if op.KV.Verb == api.KVUnlock {
			unlocked[op.KV.Key] = true
		}
		if why := f.refuses(op.KV, unlocked); why != "" {
			return answer{409, map[string]any{"Errors": []any{map[string]any{"OpIndex": i, "What": why}}}}
		}
	}
	results := []any{}
	f.bump() // one index for the whole transaction
	for _, op := range ops {
		p := &api.KVPair{Key: op.KV.Key, Value: op.KV.Value, Flags: op.KV.Flags, Session: op.KV.Session}
		switch op.KV.Verb {
		case api.KVLock, api.KVSet:
			f.store(p)
		case api.KVUnlock:
			p.Session = ""
			f.store(p)
		case api.KVDelete:
			delete(f.keys, op.KV.Key)
			continue
		default:
			continue
		}
		results = append(results, map[string]any{"KV": p})
	}
	if len(results) == 0 {
		results = append(results, map[string]any{"KV": &api.KVPair{ModifyIndex: f.index}})
	}
	return answer{200, map[string]any{"Results": results}}
}

// refuses says why an operation fails, as the state store does, after those
// before it have unlocked some keys.
func (f *Fake) refuses(op *api.KVTxnOp, unlocked map[string]bool) string {
	p := f.keys[op.Key]
	switch {
	case op.Verb == api.KVCheckNotExists && p != nil:
		return "exists"
	case op.Verb == api.KVCheckIndex && (p == nil || p.ModifyIndex != op.Index):
		return "index is stale"
	case op.Verb == api.KVLock && f.sessions[op.Session] == "":
		return "invalid session"
	case op.Verb == api.KVLock && p != nil && p.Session != "" && p.Session != op.Session && !unlocked[op.Key]:
		return "lock is already held"
	case (op.Verb == api.KVUnlock || op.Verb == api.KVCheckSession) && (p == nil || p.Session != op.Session):
		return "lock isn't held, or is held by another session"
	}
	return ""
}

// pipeListener hands out in-memory connections, on which synctest can wait.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// Answer answers a request by itself, as a proxy or a broken agent would.
func Answer(code int, contentType, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// Only restricts an interception to paths that begin so.
func Only(path string, f func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasPrefix(r.URL.Path, path) && f(w, r)
	}
}

// Denying answers for a token that lacks the permissions to these resources.
func Denying(resources ...string) func(http.ResponseWriter, *http.Request) bool {
	return Only(AuthorizePath, func(w http.ResponseWriter, r *http.Request) bool {
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

// Filtered answers a list from which Consul left out everything that the token may
// not read.
func Filtered(w http.ResponseWriter, r *http.Request) bool {
	if !r.URL.Query().Has("recurse") {
		return false
	}
	w.Header().Set("X-Consul-Index", "99")
	w.Header().Set("X-Consul-LastContact", "0")
	w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	w.WriteHeader(http.StatusNotFound)
	return true
}
