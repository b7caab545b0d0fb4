package fakeconsul

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

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
		_, changed := f.changed.Get()
		f.mu.Lock()
		now := f.index
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
