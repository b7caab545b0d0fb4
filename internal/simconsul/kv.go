package simconsul

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	// jitter is the part of the wait by which Consul prolongs it at most.
	jitter = 16
)

// kv serves one key, or all below a prefix.
func (a *Agent) kv(ctx context.Context, r *run, key string, q Request) *answer {
	recurse := q.Query.Has("recurse")
	switch {
	case q.Method == http.MethodGet && recurse:
		return a.list(ctx, r, key, q)
	case q.Method != http.MethodGet && q.Method != http.MethodPut && q.Method != http.MethodDelete:
		return notAllowed(q, "GET,PUT,DELETE")
	case key == "":
		return plain(http.StatusBadRequest, "Missing key name")
	case q.Method == http.MethodGet:
		return a.get(ctx, r, key, q)
	case q.Method == http.MethodPut:
		return a.put(ctx, r, key, q)
	}
	return a.remove(ctx, r, key, q)
}

// blocking returns the index that a query waits to be passed, and for how long.
func (a *Agent) blocking(q Request) (index uint64, wait time.Duration) {
	index, _ = strconv.ParseUint(q.Query.Get("index"), 10, 64)
	if index == 0 {
		return 0, 0
	}
	wait, _ = time.ParseDuration(q.Query.Get("wait"))
	if wait = min(wait, maxWait); wait <= 0 {
		wait = defaultWait
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	return index, wait + a.c.latency(0, wait/jitter)
}

// list serves the keys below a prefix. Those that the token may not read are missing.
func (a *Agent) list(ctx context.Context, r *run, prefix string, q Request) *answer {
	index, wait := a.blocking(q)
	_, consistent := q.Query["consistent"]
	var (
		pairs  []*api.KVPair
		m      = meta{}
		denied error
	)
	err := a.read(ctx, r, query{consistent, wait, func(s *store, last bool) bool {
		if denied = a.c.unknown(q.Token); denied != nil {
			return true
		}
		if !last && s.listIndex(prefix) <= index {
			return false
		}
		pairs, m.index = s.list(prefix)
		all := len(pairs)
		pairs = a.c.readable(q.Token, pairs)
		m.filtered = len(pairs) != all && q.Token != ""
		return true
	}})
	return entries(pairs, m, cmp.Or(err, denied))
}

// readable leaves out what a token may not read. The caller holds mu.
func (c *Cluster) readable(token string, pairs []*api.KVPair) []*api.KVPair {
	if c.tokens == nil {
		return pairs
	}
	t := c.tokens[token]
	var may []*api.KVPair
	for _, p := range pairs {
		if t.key(p.Key, "read") {
			may = append(may, p)
		}
	}
	return may
}

// get serves one key. A blocking query for a key that does not exist waits for it to
// come.
func (a *Agent) get(ctx context.Context, r *run, key string, q Request) *answer {
	index, wait := a.blocking(q)
	_, consistent := q.Query["consistent"]
	var (
		pairs  []*api.KVPair
		m      = meta{}
		denial error
		missed bool // it did not exist before
	)
	err := a.read(ctx, r, query{consistent, wait, func(s *store, last bool) bool {
		may := func(t Token) bool { return t.key(key, "read") }
		if denial = denied(a.c.denies(q.Token, may), "key:read", key); denial != nil {
			return true
		}
		p := s.keys[key]
		if p == nil {
			pairs, m.index = nil, max(s.kvIndex, 1)
			still := missed
			missed = true
			return last || !still && m.index > index
		}
		pairs, m.index = []*api.KVPair{p}, p.ModifyIndex
		return last || m.index > index
	}})
	return entries(pairs, m, cmp.Or(err, denial))
}

// entries is the answer with these keys.
func entries(pairs []*api.KVPair, m meta, err error) *answer {
	switch {
	case err != nil:
		return failure(err)
	case len(pairs) == 0:
		return m.set(empty(http.StatusNotFound))
	}
	text := []byte{'['}
	for i, p := range pairs {
		if i > 0 {
			text = append(text, ',')
		}
		text = appendEntry(text, p, true)
	}
	return m.set(asJSON(http.StatusOK, append(text, ']')))
}

// appendEntry writes a key as Consul does. Encoding is most of the work of an answer,
// so this does not use reflection.
func appendEntry(text []byte, p *api.KVPair, value bool) []byte {
	text = append(text, `{"LockIndex":`...)
	text = strconv.AppendUint(text, p.LockIndex, 10)
	text = append(text, `,"Key":`...)
	text = appendString(text, p.Key)
	text = append(text, `,"Flags":`...)
	text = strconv.AppendUint(text, p.Flags, 10)
	text = append(text, `,"Value":`...)
	if value && len(p.Value) > 0 {
		text = append(text, '"')
		text = base64.StdEncoding.AppendEncode(text, p.Value)
		text = append(text, '"')
	} else {
		text = append(text, "null"...)
	}
	if p.Session != "" {
		text = append(text, `,"Session":`...)
		text = appendString(text, p.Session)
	}
	text = append(text, `,"CreateIndex":`...)
	text = strconv.AppendUint(text, p.CreateIndex, 10)
	text = append(text, `,"ModifyIndex":`...)
	text = strconv.AppendUint(text, p.ModifyIndex, 10)
	return append(text, '}')
}

func appendString(text []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string can always be marshalled
			return append(text, quoted...)
		}
	}
	text = append(text, '"')
	text = append(text, s...)
	return append(text, '"')
}

// put serves a plain write, a lock, its release, or a write with a check of the index.
func (a *Agent) put(ctx context.Context, r *run, key string, q Request) *answer {
	p := api.KVPair{Key: key, Value: q.Body}
	p.Flags, _ = strconv.ParseUint(q.Query.Get("flags"), 10, 64)
	op := api.KVTxnOp{Verb: api.KVSet}
	switch {
	case q.Query.Has("acquire"):
		p.Session, op.Verb = q.Query.Get("acquire"), api.KVLock
	case q.Query.Has("release"):
		p.Session, op.Verb = q.Query.Get("release"), api.KVUnlock
	case q.Query.Has("cas"):
		op.Verb = api.KVCAS
		op.Index, _ = strconv.ParseUint(q.Query.Get("cas"), 10, 64)
	}
	return a.apply(ctx, r, q, op, p)
}

// remove serves a deletion.
func (a *Agent) remove(ctx context.Context, r *run, key string, q Request) *answer {
	op := api.KVTxnOp{Verb: api.KVDelete}
	switch {
	case q.Query.Has("recurse"):
		op.Verb = api.KVDeleteTree
	case q.Query.Has("cas"):
		op.Verb = api.KVDeleteCAS
		op.Index, _ = strconv.ParseUint(q.Query.Get("cas"), 10, 64)
	}
	return a.apply(ctx, r, q, op, api.KVPair{Key: key})
}

// apply runs one operation outside of a transaction. Its answer is whether it was done;
// only a lock with a session that is no good is an error.
func (a *Agent) apply(ctx context.Context, r *run, q Request, op api.KVTxnOp, p api.KVPair) *answer {
	op.Key, op.Value, op.Flags, op.Session = p.Key, p.Value, p.Flags, p.Session
	var denial error
	var refusal string
	err := a.write(ctx, r, func(s *store) bool {
		may := func(t Token) bool { return t.key(p.Key, "write") }
		if denial = denied(a.c.denies(q.Token, may), "key:write", p.Key); denial != nil {
			return false
		}
		if refusal = a.c.delayed(&op); refusal == "" {
			_, refusal = s.operate(&op, "put by "+a.Node)
		}
		return refusal == ""
	})
	err = cmp.Or(err, denial)
	switch {
	case err != nil:
		return failure(err)
	case refusal == "missing session" || strings.HasPrefix(refusal, "invalid session"):
		return plain(http.StatusInternalServerError, refusal)
	}
	return ok200(refusal == "")
}
