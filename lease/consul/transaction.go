package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/consul/api"
)

// maxOps is the most operations that Consul takes in one transaction.
const maxOps = 128

var (
	// ErrConflict is a transaction that Consul refused as a whole: nothing was
	// written.
	ErrConflict = errors.New("transaction refused")
	// ErrUnsent is a write that was given up before it was sent.
	ErrUnsent = errors.New("not sent")
)

// Op is one operation of a transaction.
type Op = *api.KVTxnOp

// Unchanged makes Consul refuse the transaction unless a key still has this
// ModifyIndex; with index 0, unless the key still does not exist.
func Unchanged(key string, index uint64) Op {
	if index == 0 {
		return &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key}
	}
	return &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: index}
}

// HeldBy makes Consul refuse the transaction unless the session is on the key.
func HeldBy(key, session string) Op {
	return &api.KVTxnOp{Verb: api.KVCheckSession, Key: key, Session: session}
}

// Acquire writes a lock and puts the session on it. Consul refuses it while
// another session is on the key. The flag is the one `consul lock` looks for: it
// refuses a key without it, so it is set on acquiring and on releasing alike.
func Acquire(key string, value []byte, session string) Op {
	return &api.KVTxnOp{Verb: api.KVLock, Key: key, Value: value, Flags: api.LockFlagValue, Session: session}
}

// Release writes a lock and takes the session off it. Consul refuses it unless
// the session is on the key, and takes it from any client.
func Release(key string, value []byte, session string) Op {
	return &api.KVTxnOp{Verb: api.KVUnlock, Key: key, Value: value, Flags: api.LockFlagValue, Session: session}
}

// Enroll writes a key that is no lock and puts the session on it.
func Enroll(key string, value []byte, session string) Op {
	return &api.KVTxnOp{Verb: api.KVLock, Key: key, Value: value, Session: session}
}

// Set writes a key. A session on it stays.
func Set(key string, value []byte) Op {
	return &api.KVTxnOp{Verb: api.KVSet, Key: key, Value: value}
}

// Delete deletes a key. One that does not exist is no conflict: combine it with
// Unchanged or HeldBy where that matters.
func Delete(key string) Op { return &api.KVTxnOp{Verb: api.KVDelete, Key: key} }

// Commit writes ops, all or none, and returns the index they were written at.
// ErrConflict and ErrUnsent mean that nothing was written; after any other error
// it may have been.
func (c *Client) Commit(ctx context.Context, ops ...Op) (uint64, error) {
	return c.writer.commit(ctx, ops)
}

// DeleteUnchanged deletes a key as it was at index. The error is ErrConflict if
// the key has changed since or is gone. (Consul's own delete-cas reports success
// for a key that is gone.)
func (c *Client) DeleteUnchanged(ctx context.Context, key string, index uint64) error {
	_, err := c.Commit(ctx, Unchanged(key, index), Delete(key))
	return err
}

// writer writes to the KV store. Writes that arrive while two transactions are
// under way leave together in the next one: a hundred locks released at once cost
// a handful of Raft commits. It is safe for concurrent use.
type writer struct {
	api      *api.Client
	tenancy  tenancy
	denied   denials
	slots    chan struct{} // one token for each request under way
	ctx      context.Context
	cancel   context.CancelFunc
	underWay sync.WaitGroup // transactions
	written  atomic.Uint64  // the highest index of a confirmed transaction in this history

	mu    sync.Mutex // guards all following fields
	queue []*request
}

// request is what one caller wants written, all of it or nothing.
type request struct {
	ops   []Op
	done  chan struct{} // closed when index and err are set
	index uint64
	err   error
}

func newWriter(client *api.Client, denied denials) *writer {
	w := &writer{api: client, slots: make(chan struct{}, maxWrites), denied: denied}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// close ends the transactions under way and waits for them.
func (w *writer) close() {
	w.cancel()
	w.underWay.Wait()
}

// slot waits for one of the connections that writes and single reads share: the
// watch, the renewals and the check keep theirs. The caller must free it.
func (w *writer) slot(ctx context.Context) (free func(), err error) {
	select {
	case w.slots <- struct{}{}:
		return func() { <-w.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (w *writer) commit(ctx context.Context, ops []Op) (uint64, error) {
	r := &request{ops: ops, done: make(chan struct{})}
	w.enqueue(r)
	slots := w.slots
	for {
		select {
		case slots <- struct{}{}: // the caller that gets a slot sends for all that wait
			batch := w.take()
			w.underWay.Go(func() {
				defer func() { <-w.slots }()
				w.send(batch)
			})
			if !w.queued(r) {
				slots = nil
			}
		case <-r.done:
			return r.index, r.err
		case <-ctx.Done():
			if w.remove(r) {
				return 0, fmt.Errorf("writing %s: %w: %w", ops[0].Key, ErrUnsent, context.Cause(ctx))
			}
			return 0, fmt.Errorf("writing %s: %w", ops[0].Key, context.Cause(ctx))
		}
	}
}

func (w *writer) enqueue(r *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, r)
}

// take empties the queue as far as one transaction can hold it.
func (w *writer) take() []*request {
	w.mu.Lock()
	defer w.mu.Unlock()
	ops, n := 0, 0
	for n < len(w.queue) && ops+len(w.queue[n].ops) <= maxOps {
		ops += len(w.queue[n].ops)
		n++
	}
	batch := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	return batch
}

func (w *writer) queued(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.queue, r)
}

// remove reports whether r was still waiting.
func (w *writer) remove(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, r)
	if i < 0 {
		return false
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	return true
}

// send writes batch. It sends again without the requests that Consul names as the
// reason for a refusal, until each is written or refused.
func (w *writer) send(batch []*request) {
	for len(batch) > 0 {
		index, refused, err := w.transact(batch)
		if err != nil || len(refused) == 0 {
			finish(batch, index, err)
			return
		}
		var rest []*request
		for i, r := range batch {
			reasons, ok := refused[i]
			if !ok {
				rest = append(rest, r)
				continue
			}
			err := fmt.Errorf("%w: %s", ErrConflict, strings.Join(reasons, "; "))
			w.denied.report(err) // only the text tells a missing permission
			finish(batch[i:i+1], 0, err)
		}
		batch = rest
	}
}

// finish tells the callers how their requests ended.
func finish(batch []*request, index uint64, err error) {
	for _, r := range batch {
		if r.index = index; err != nil {
			r.err = fmt.Errorf("writing %s: %w", r.ops[0].Key, err)
		}
		close(r.done)
	}
}

// transact runs one transaction. Where Consul refuses it, refused has the reasons
// by the position of the request they concern, at least one.
func (w *writer) transact(batch []*request) (index uint64, refused map[int][]string, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, writeTimeout)
	defer cancel()
	var txn api.TxnOps
	var owner []int // of each operation, the request
	for i, r := range batch {
		for _, op := range r.ops {
			txn = append(txn, w.tenancy.operation(op))
			owner = append(owner, i)
		}
	}
	ok, resp, _, err := w.api.Txn().Txn(txn, query(ctx))
	switch {
	case err != nil:
		return 0, nil, err
	case !ok:
		refused = refusals(resp.Errors, owner)
		if len(refused) == 0 {
			err = errNoConsul
		}
		return 0, refused, err
	}
	for _, r := range resp.Results {
		if r.KV != nil {
			index = max(index, r.KV.ModifyIndex)
		}
	}
	if index == 0 {
		return 0, nil, errNoConsul
	}
	w.wrote(index)
	return index, nil, nil
}

// wrote notes the index of a confirmed transaction.
func (w *writer) wrote(index uint64) {
	for before := w.written.Load(); index > before; before = w.written.Load() {
		if w.written.CompareAndSwap(before, index) {
			return
		}
	}
}

// refusals sorts Consul's reasons by the request that each operation belongs to.
func refusals(errs api.TxnErrors, owner []int) map[int][]string {
	refused := map[int][]string{}
	for _, e := range errs {
		if e.OpIndex >= 0 && e.OpIndex < len(owner) {
			refused[owner[e.OpIndex]] = append(refused[owner[e.OpIndex]], e.What)
		}
	}
	return refused
}
