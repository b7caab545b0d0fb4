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
	return c.writer.commit(ctx, common, &request{ops: ops})
}

// DeleteUnchanged deletes a key as it was at index. The error is ErrConflict if
// the key has changed since or is gone. (Consul's own delete-cas reports success
// for a key that is gone.)
func (c *Client) DeleteUnchanged(ctx context.Context, key string, index uint64) error {
	_, err := c.Commit(ctx, Unchanged(key, index), Delete(key))
	return err
}

// Take is Commit for a transaction that takes a lock from a dead host. It gives up what
// Consul has not answered within [TakeTry], and never waits for another transaction that
// hangs: see slots. Nothing is sent, and the error is ErrUnsent, if wanted returns false
// right before; it must not block.
func (c *Client) Take(ctx context.Context, wanted func() bool, ops ...Op) (uint64, error) {
	return c.writer.commit(ctx, taking, &request{ops: ops, wanted: wanted})
}

// writer writes to the KV store. Writes that arrive while two transactions are
// under way leave together in the next one: a hundred locks released at once cost
// a handful of Raft commits. It is safe for concurrent use.
type writer struct {
	api      *api.Client
	tenancy  tenancy
	denied   denials
	slots    slots
	ctx      context.Context
	cancel   context.CancelFunc
	underWay sync.WaitGroup // transactions
	written  atomic.Uint64  // the highest index of a confirmed transaction in this history

	mu    sync.Mutex // guards all following fields, and the waiter of each request
	queue [lanes][]*request
}

// request is what one caller wants written, all of it or nothing.
type request struct {
	ops    []Op
	wanted func() bool // nil: until its caller gives up
	waiter *waiter     // for a slot
	done   chan struct{}
	index  uint64 // and err are set before done is closed
	err    error
}

func newWriter(client *api.Client, denied denials) *writer {
	w := &writer{api: client, denied: denied}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.slots.parent = w.ctx
	return w
}

// close ends the transactions under way and waits for them.
func (w *writer) close() {
	w.cancel()
	w.underWay.Wait()
}

// slot waits for a slot for a single read, which must end with until. The caller must
// free it.
func (w *writer) slot(ctx context.Context) (until context.Context, free func(), err error) {
	waiting := w.slots.enter(common)
	select {
	case s := <-waiting.granted:
		until, cancel := context.WithCancelCause(ctx)
		stop := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
		return until, func() { stop(); cancel(nil); w.slots.free(s) }, nil
	case <-ctx.Done():
		w.slots.leave(waiting)
		return nil, nil, context.Cause(ctx)
	}
}

func (w *writer) commit(ctx context.Context, l lane, r *request) (uint64, error) {
	w.enqueue(l, r)
	for {
		select {
		case s := <-r.waiter.granted: // the caller that gets a slot sends for all that wait
			batch := w.take(l)
			w.underWay.Go(func() {
				defer w.slots.free(s)
				w.send(s, batch)
			})
			w.waitAgain(l, r)
		case <-r.done:
			return r.index, r.err
		case <-ctx.Done():
			if w.remove(l, r) {
				return 0, fmt.Errorf("writing %s: %w: %w", r.ops[0].Key, ErrUnsent, context.Cause(ctx))
			}
			return 0, fmt.Errorf("writing %s: %w", r.ops[0].Key, context.Cause(ctx))
		}
	}
}

func (w *writer) enqueue(l lane, r *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.done = make(chan struct{})
	w.queue[l] = append(w.queue[l], r)
	r.waiter = w.slots.enter(l)
}

// waitAgain waits for another slot if the last one served others only.
func (w *writer) waitAgain(l lane, r *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.queue[l], r) {
		r.waiter = w.slots.enter(l)
	}
}

// take empties the queue as far as one transaction can hold it.
func (w *writer) take(l lane) (batch []*request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ops, n := 0, 0
	for _, r := range w.queue[l] {
		if ops+len(r.ops) > maxOps {
			break
		}
		n++
		w.slots.leave(r.waiter)
		if r.wanted != nil && !r.wanted() {
			finish([]*request{r}, 0, ErrUnsent)
			continue
		}
		ops += len(r.ops)
		batch = append(batch, r)
	}
	w.queue[l] = slices.Delete(w.queue[l], 0, n)
	return batch
}

// remove reports whether r was still waiting.
func (w *writer) remove(l lane, r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue[l], r)
	if i < 0 {
		return false
	}
	w.queue[l] = slices.Delete(w.queue[l], i, i+1)
	w.slots.leave(r.waiter)
	return true
}

// send writes batch. It sends again without the requests that Consul names as the
// reason for a refusal, until each is written or refused.
func (w *writer) send(s *slot, batch []*request) {
	ctx := s.ctx
	if s.lane == taking {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, TakeTry)
		defer cancel()
	}
	for len(batch) > 0 {
		index, refused, err := w.transact(ctx, batch)
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
func (w *writer) transact(ctx context.Context, batch []*request) (index uint64, refused map[int][]string, err error) {
	once, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var txn api.TxnOps
	var owner []int // of each operation, the request
	for i, r := range batch {
		for _, op := range r.ops {
			txn = append(txn, w.tenancy.operation(op))
			owner = append(owner, i)
		}
	}
	ok, resp, _, err := w.api.Txn().Txn(txn, query(once))
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errBrokenOff):
		return 0, nil, errBrokenOff
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
