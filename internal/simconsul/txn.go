package simconsul

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxOps is the most operations that Consul takes in one transaction.
const maxOps = 128

// txnError is why an operation of a transaction was refused.
type txnError struct {
	OpIndex int
	What    string
}

// txn serves a transaction: all of it is done, under one index, or nothing.
func (a *Agent) txn(ctx context.Context, r *run, _ string, q Request) *answer {
	var ops []txnOp
	if err := json.Unmarshal(q.Body, &ops); err != nil {
		return plain(http.StatusBadRequest, "Failed to parse body: "+err.Error())
	}
	if len(ops) > maxOps {
		return plain(http.StatusRequestEntityTooLarge, fmt.Sprintf("Transaction contains too many operations (%d > %d)", len(ops), maxOps))
	}
	var (
		results []*api.KVPair
		errs    []txnError
		unknown error
	)
	err := a.write(ctx, r, func(s *store) bool {
		unknown = a.c.unknown(q.Token)
		if unknown != nil {
			return false
		}
		results, errs = a.transact(s, q.Token, ops)
		return len(errs) == 0
	})
	if err == nil {
		err = unknown
	}
	switch {
	case err != nil:
		return failure(err)
	case len(errs) > 0:
		text, _ := json.Marshal(map[string]any{"Results": nil, "Errors": errs}) // numbers and strings
		return asJSON(http.StatusConflict, text)
	}
	return asJSON(http.StatusOK, resultsOf(results, a.c, q.Token))
}

// txnOp is an operation of a transaction; others than those on keys are not simulated.
type txnOp struct{ KV *api.KVTxnOp }

// transact runs a transaction, or returns everything for which it is refused. The
// caller holds mu.
func (a *Agent) transact(s *store, token string, ops []txnOp) (results []*api.KVPair, errs []txnError) {
	for i, op := range ops { // all that the leader looks at before it commits anything
		if why := a.c.precheck(token, op.KV); why != "" {
			errs = append(errs, txnError{i, why})
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	for i, op := range ops {
		result, why := s.operate(op.KV, "txn by "+a.Node)
		if why != "" {
			errs = append(errs, txnError{i, why})
		}
		results = append(results, result...)
	}
	return results, errs
}

// resultsOf encodes the results that the token may read.
func resultsOf(pairs []*api.KVPair, c *Cluster, token string) []byte {
	c.mu.Lock()
	pairs = c.readable(token, pairs)
	c.mu.Unlock()
	text := []byte(`{"Results":[`)
	for i, p := range pairs {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, `{"KV":`...)
		text = append(appendEntry(text, p, false), '}')
	}
	return append(text, `],"Errors":null}`...)
}

// precheck is what the leader checks before it commits an operation. The caller holds
// mu.
func (c *Cluster) precheck(token string, op *api.KVTxnOp) string {
	if op == nil {
		return "unknown operation type"
	}
	access := "write"
	if op.Verb == api.KVCheckIndex || op.Verb == api.KVCheckSession {
		access = "read"
	}
	may := func(t Token) bool { return t.key(op.Key, access) }
	if err := denied(c.denies(token, may), "key:"+access, op.Key); err != nil {
		return err.Error()
	}
	return c.delayed(op)
}

// delayed says that a lock must wait for the end of a lock-delay. The caller holds mu.
func (c *Cluster) delayed(op *api.KVTxnOp) string {
	if op.Verb == api.KVLock && time.Now().Before(c.lockDelays[op.Key]) {
		return fmt.Sprintf("failed to lock key %q due to lock delay", op.Key)
	}
	return ""
}

// operate does one operation of a transaction, or returns why it is refused.
func (s *store) operate(op *api.KVTxnOp, why string) (results []*api.KVPair, refusal string) {
	p := api.KVPair{Key: op.Key, Value: op.Value, Flags: op.Flags, Session: op.Session}
	old := s.keys[op.Key]
	var result *api.KVPair
	switch op.Verb {
	case api.KVSet:
		result = s.set(p, false, why)
	case api.KVLock:
		result, refusal = s.lock(p, why)
	case api.KVUnlock:
		result, refusal = s.unlock(p, why)
	case api.KVDelete:
		s.delete(op.Key, why, time.Now())
	case api.KVDeleteTree:
		for _, key := range slices.Sorted(maps.Keys(s.keys)) {
			if strings.HasPrefix(key, op.Key) {
				s.delete(key, why, time.Now())
			}
		}
	case api.KVCAS, api.KVDeleteCAS:
		result, refusal = s.swap(op, p, why)
	default:
		result, refusal = verify(op, old)
	}
	if result != nil {
		results = append(results, result)
	}
	return results, refusal
}

// swap writes or deletes a key as it was at an index. Deleting what is gone is done.
func (s *store) swap(op *api.KVTxnOp, p api.KVPair, why string) (*api.KVPair, string) {
	old := s.keys[op.Key]
	stale := old == nil && op.Index != 0 || old != nil && op.Index != old.ModifyIndex
	switch {
	case op.Verb == api.KVDeleteCAS && old != nil && stale:
		return nil, fmt.Sprintf("failed to delete key %q, index is stale", op.Key)
	case op.Verb == api.KVDeleteCAS:
		s.delete(op.Key, why, time.Now())
		return nil, ""
	case stale:
		return nil, fmt.Sprintf("failed to set key %q, index is stale", op.Key)
	}
	return s.set(p, false, why), ""
}

// verify does an operation that writes nothing.
func verify(op *api.KVTxnOp, old *api.KVPair) (*api.KVPair, string) {
	switch op.Verb {
	case api.KVCheckNotExists:
		if old != nil {
			return nil, fmt.Sprintf("key %q exists", op.Key)
		}
		return nil, ""
	case api.KVCheckIndex:
		switch {
		case old == nil:
			return nil, fmt.Sprintf("failed to check index, key %q doesn't exist", op.Key)
		case old.ModifyIndex != op.Index:
			return nil, fmt.Sprintf("failed index check for key %q, current modify index %d != %d", op.Key, old.ModifyIndex, op.Index)
		}
		return old, ""
	case api.KVCheckSession:
		switch {
		case old == nil:
			return nil, fmt.Sprintf("failed to check session, key %q doesn't exist", op.Key)
		case old.Session != op.Session:
			return nil, fmt.Sprintf("failed session check for key %q, current session %q != %q", op.Key, old.Session, op.Session)
		}
		return old, ""
	case api.KVGet:
		if old == nil {
			return nil, fmt.Sprintf("key %q doesn't exist", op.Key)
		}
		return old, ""
	}
	return nil, fmt.Sprintf("unknown KV operation: %s", op.Verb)
}
