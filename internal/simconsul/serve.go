package simconsul

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
func (c *Consul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests = append(c.requests, r.Method+" "+r.URL.Path)
	intercept := c.intercept
	c.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	answer := c.handle(r)
	c.mu.Lock()
	after, index := c.after, c.index
	c.mu.Unlock()
	if after != nil {
		after(r)
	}
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	w.Header().Set("X-Consul-LastContact", "0")
	w.WriteHeader(answer.status)
	_ = json.NewEncoder(w).Encode(answer.body)
}

// Serve serves a request that comes late, without an answer to anybody.
func (c *Consul) Serve(r *http.Request) { c.handle(r) }

type answer struct {
	status int
	body   any
}

func (c *Consul) handle(r *http.Request) answer {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch {
	case path == "agent/self":
		return answer{200, map[string]any{"Config": map[string]any{"NodeName": "h1"}}}
	case strings.HasPrefix(path, "agent/"):
		return answer{200, nil}
	case strings.HasPrefix(path, "session/"):
		return c.serveSession(strings.TrimPrefix(path, "session/"), r)
	case path == "txn":
		return c.serveTxn(r)
	case r.URL.Path == AuthorizePath:
		return answer{401, "ACL support disabled"}
	case strings.HasPrefix(path, "kv/"):
		return c.serveKV(strings.TrimPrefix(path, "kv/"), r)
	}
	return answer{500, "fake: " + path}
}

func (c *Consul) serveSession(path string, r *http.Request) answer {
	verb, id, _ := strings.Cut(path, "/")
	var body struct{ Name string }
	if verb == "create" {
		_ = json.NewDecoder(r.Body).Decode(&body)
	}
	if verb == "destroy" {
		c.Destroy(id)
		return answer{200, true}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case verb == "create":
		id = fmt.Sprintf("session-%d", c.index)
		c.bump()
		c.sessions[id] = cmp.Or(body.Name, "unnamed") // an interception may have read the body
		return answer{200, map[string]string{"ID": id}}
	case c.sessions[id] != "":
		return answer{200, []any{map[string]any{"ID": id, "Name": c.sessions[id], "Node": "h1"}}}
	case verb == "renew":
		return answer{404, nil}
	}
	return answer{200, []any{}} // info
}

func (c *Consul) serveKV(key string, r *http.Request) answer {
	q := r.URL.Query()
	if _, recurse := q["recurse"]; !recurse {
		if p := c.Get(key); p != nil {
			return answer{200, []*api.KVPair{p}}
		}
		return answer{404, nil}
	}
	index, _ := strconv.ParseUint(q.Get("index"), 10, 64)
	wait, _ := time.ParseDuration(q.Get("wait"))
	c.block(r.Context(), index, wait)
	c.mu.Lock()
	defer c.mu.Unlock()
	pairs := []*api.KVPair{}
	for k, p := range c.keys {
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
func (c *Consul) block(ctx context.Context, index uint64, wait time.Duration) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		_, changed := c.changed.Get()
		c.mu.Lock()
		now := c.index
		c.mu.Unlock()
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
