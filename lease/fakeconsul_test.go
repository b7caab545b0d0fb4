package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"
)

// fakeConsul is as much of Consul as a Keeper speaks to, over in-memory
// connections, so that it runs in a synctest bubble with its fake time. The
// real one is what the integration tests are for; this one answers at the
// wrong moment, or wrongly, when told to.
type fakeConsul struct {
	t        *testing.T
	listener *pipeListener
	server   *http.Server

	mu       sync.Mutex
	index    uint64
	changed  chan struct{}
	keys     map[string]*api.KVPair
	sessions map[string]bool
	requests []string
	// intercept may answer a request itself (true), or let it be served. It runs
	// without mu. after runs once the request has been served, before the
	// answer is written; it may hang to delay the answer.
	intercept func(w http.ResponseWriter, r *http.Request) bool
	after     func(r *http.Request)
}

func newFakeConsul(t *testing.T) *fakeConsul {
	f := &fakeConsul{
		t:        t,
		listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
		index:    10,
		changed:  make(chan struct{}),
		keys:     map[string]*api.KVPair{},
		sessions: map[string]bool{},
	}
	f.server = &http.Server{Handler: f}
	go func() { _ = f.server.Serve(f.listener) }()
	return f
}

// client returns a client and what ends it and the server; that must be called
// before the bubble ends.
func (f *fakeConsul) client() (*api.Client, func()) {
	client, closeIdle := f.newClient()
	return client, func() {
		closeIdle()
		_ = f.server.Close()
	}
}

func (f *fakeConsul) newClient() (client *api.Client, closeIdle func()) {
	transport := &http.Transport{
		MaxConnsPerHost: MaxConns,
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return f.listener.dial(ctx) },
	}
	client, err := api.NewClient(&api.Config{
		Address: "consul.test", Scheme: "http", Transport: transport,
		HttpClient: &http.Client{Transport: Transport(transport)},
	})
	require.NoError(f.t, err)
	return client, transport.CloseIdleConnections
}

func (f *fakeConsul) on(intercept func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = intercept
}

// orHang replaces a missing answer by none at all.
func (f *fakeConsul) orHang(answer func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
	if answer != nil {
		return answer
	}
	return func(http.ResponseWriter, *http.Request) bool {
		<-f.listener.closed // the server does not see a client go that has sent a body
		return true
	}
}

func (f *fakeConsul) delay(after func(r *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = after
}

// count says how many requests began with "METHOD /path".
func (f *fakeConsul) count(prefix string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (f *fakeConsul) get(key string) *api.KVPair {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[key]
}

// put writes as a plain `kv put` does: the session stays on the key.
func (f *fakeConsul) put(key, value, session string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &api.KVPair{Key: key, Value: []byte(value), Session: session}
	if old := f.keys[key]; old != nil && session == "" {
		p.Session = old.Session
	}
	f.write(p)
}

func (f *fakeConsul) delete(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, key)
	f.bump()
}

// begin starts a session of another program.
func (f *fakeConsul) begin(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[id] = true
}

func (f *fakeConsul) destroy(id string) {
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

func (f *fakeConsul) write(p *api.KVPair) {
	f.bump()
	f.store(p)
}

func (f *fakeConsul) store(p *api.KVPair) {
	p.ModifyIndex = f.index
	f.keys[p.Key] = p
}

func (f *fakeConsul) bump() {
	f.index++
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeConsul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	intercept := f.intercept
	f.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	answer := f.serve(r)
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

type answer struct {
	status int
	body   any
}

func (f *fakeConsul) serve(r *http.Request) answer {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch {
	case path == "agent/self":
		return answer{200, map[string]any{"Config": map[string]any{"NodeName": "h1"}}}
	case strings.HasPrefix(path, "agent/"):
		return answer{200, nil}
	case strings.HasPrefix(path, "session/"):
		return f.serveSession(strings.TrimPrefix(path, "session/"))
	case path == "txn":
		return f.serveTxn(r)
	case r.URL.Path == authorizePath:
		return answer{401, "ACL support disabled"}
	case strings.HasPrefix(path, "kv/"):
		return f.serveKV(strings.TrimPrefix(path, "kv/"), r)
	}
	return answer{500, "fake: " + path}
}

func (f *fakeConsul) serveSession(path string) answer {
	verb, id, _ := strings.Cut(path, "/")
	if verb == "destroy" {
		f.destroy(id)
		return answer{200, true}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case verb == "create":
		id = fmt.Sprintf("session-%d", f.index)
		f.bump()
		f.sessions[id] = true
		return answer{200, map[string]string{"ID": id}}
	case f.sessions[id]:
		return answer{200, []any{map[string]any{"ID": id, "Name": sessionName, "Node": "h1"}}}
	case verb == "renew":
		return answer{404, nil}
	}
	return answer{200, []any{}} // info
}

func (f *fakeConsul) serveKV(key string, r *http.Request) answer {
	q := r.URL.Query()
	if _, recurse := q["recurse"]; !recurse {
		if p := f.get(key); p != nil {
			return answer{200, []*api.KVPair{p}}
		}
		return answer{404, nil}
	}
	wait, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	f.block(r.Context(), wait)
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
	sort.Slice(pairs, func(i, j int) bool { return pairs[i].Key < pairs[j].Key })
	return answer{200, pairs}
}

// block waits as a blocking query does.
func (f *fakeConsul) block(ctx context.Context, index uint64) {
	timeout := time.NewTimer(watchWait)
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

func (f *fakeConsul) serveTxn(r *http.Request) answer {
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
func (f *fakeConsul) refuses(op *api.KVTxnOp, unlocked map[string]bool) string {
	p := f.keys[op.Key]
	switch {
	case op.Verb == api.KVCheckNotExists && p != nil:
		return "exists"
	case op.Verb == api.KVCheckIndex && (p == nil || p.ModifyIndex != op.Index):
		return "index is stale"
	case op.Verb == api.KVLock && !f.sessions[op.Session]:
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
