package simconsul

import (
	"encoding/json"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// serveTxn runs a transaction, all of it or nothing.
func (c *Consul) serveTxn(r *http.Request) answer {
	var ops []struct{ KV *api.KVTxnOp }
	if err := json.NewDecoder(r.Body).Decode(&ops); err != nil {
		return answer{400, err.Error()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	unlocked := map[string]bool{}
	for i, op := range ops {
		if op.KV.Verb == api.KVUnlock {
			unlocked[op.KV.Key] = true
		}
		if why := c.refuses(op.KV, unlocked); why != "" {
			return answer{409, map[string]any{"Errors": []any{map[string]any{"OpIndex": i, "What": why}}}}
		}
	}
	results := []any{}
	c.bump() // one index for the whole transaction
	for _, op := range ops {
		p := &api.KVPair{Key: op.KV.Key, Value: op.KV.Value, Flags: op.KV.Flags, Session: op.KV.Session}
		switch op.KV.Verb {
		case api.KVLock, api.KVSet:
			c.store(p)
		case api.KVUnlock:
			p.Session = ""
			c.store(p)
		case api.KVDelete:
			delete(c.keys, op.KV.Key)
			continue
		default:
			continue
		}
		results = append(results, map[string]any{"KV": p})
	}
	if len(results) == 0 {
		results = append(results, map[string]any{"KV": &api.KVPair{ModifyIndex: c.index}})
	}
	return answer{200, map[string]any{"Results": results}}
}

// refuses says why an operation fails, as the state store does, after those
// before it have unlocked some keys.
func (c *Consul) refuses(op *api.KVTxnOp, unlocked map[string]bool) string {
	p := c.keys[op.Key]
	switch {
	case op.Verb == api.KVCheckNotExists && p != nil:
		return "exists"
	case op.Verb == api.KVCheckIndex && (p == nil || p.ModifyIndex != op.Index):
		return "index is stale"
	case op.Verb == api.KVLock && c.sessions[op.Session] == "":
		return "invalid session"
	case op.Verb == api.KVLock && p != nil && p.Session != "" && p.Session != op.Session && !unlocked[op.Key]:
		return "lock is already held"
	case (op.Verb == api.KVUnlock || op.Verb == api.KVCheckSession) && (p == nil || p.Session != op.Session):
		return "lock isn't held, or is held by another session"
	}
	return ""
}
