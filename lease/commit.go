package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"
)

// maxOps is how many operations Consul takes in one transaction.
const maxOps = 128

// errConflict is a transaction refused as a whole, with nothing written.
var errConflict = errors.New("transaction refused")

// errUnsent is a write that was given up before it was sent.
var errUnsent = errors.New("not sent")

// committer writes to the KV store. Writes that come while others are under
// way leave together, in one transaction: a hundred locks given up at once cost
// a handful of Raft commits. It is safe for concurrent use.
type committer struct {
	client    *api.Client
	slots     chan struct{} // one token for each transaction under way
	suspicion suspicion     // raised by every refusal
	ctx       context.Context
	cancel    context.CancelFunc
	flying    sync.WaitGroup

	mu    sync.Mutex
	queue []*request
}

// request is what one caller wants written, all of it or nothing.
type request struct {
	ops   []*api.KVTxnOp
	done  chan struct{} // closed when index and err are set
	index uint64
	err   error
}

func newCommitter(client *api.Client) *committer {
	c := &committer{client: client, slots: make(chan struct{}, maxWrites), suspicion: newSuspicion()}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// close ends what is under way and waits for it.
func (c *committer) close() {
	c.cancel()
	c.flying.Wait()
}

// slot waits for one of the connections that writes and single reads share: the
// watch, the renewals and the check keep theirs. It must be freed again.
func (c *committer) slot(ctx context.Context) (free func(), err error) {
	select {
	case c.slots <- struct{}{}:
		return func() { <-c.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// commit writes ops, all or none, and returns the index they were written at.
// errConflict and errUnsent mean that nothing was written; after any other
// error it may have been.
func (c *committer) commit(ctx context.Context, ops ...*api.KVTxnOp) (uint64, error) {
	r := &request{ops: ops, done: make(chan struct{})}
	c.enqueue(r)
	slots := c.slots
	for {
		select {
		case slots <- struct{}{}: // who gets one sends for all that wait
			batch := c.take()
			c.flying.Go(func() {
				defer func() { <-c.slots }()
				c.send(batch)
			})
			if !c.queued(r) {
				slots = nil
			}
		case <-r.done:
			return r.index, r.err
		case <-ctx.Done():
			if c.remove(r) {
				return 0, fmt.Errorf("writing %s: %w: %w", ops[0].Key, errUnsent, context.Cause(ctx))
			}
			return 0, fmt.Errorf("writing %s: %w", ops[0].Key, context.Cause(ctx))
		}
	}
}

// deleteUnchanged deletes a key as it was at index. The error is errConflict if it
// has changed since, or is gone: Consul's delete-cas is content with the latter.
func (c *committer) deleteUnchanged(ctx context.Context, key string, index uint64) error {
	_, err := c.commit(ctx, unchanged(key, index), &api.KVTxnOp{Verb: api.KVDelete, Key: key})
	return err
}

// unchanged has a transaction refused unless a key still is as it was at index,
// 0 for none.
func unchanged(key string, index uint64) *api.KVTxnOp {
	if index == 0 {
		return &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key}
	}
	return &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: index}
}

func (c *committer) enqueue(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, r)
}

// take empties the queue as far as one transaction can hold it.
func (c *committer) take() []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	ops, n := 0, 0
	for n < len(c.queue) && ops+len(c.queue[n].ops) <= maxOps {
		ops += len(c.queue[n].ops)
		n++
	}
	batch := slices.Clone(c.queue[:n])
	c.queue = slices.Delete(c.queue, 0, n)
	return batch
}

func (c *committer) queued(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.queue, r)
}

// remove reports whether r was still waiting.
func (c *committer) remove(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.queue, r)
	if i < 0 {
		return false
	}
	c.queue = slices.Delete(c.queue, i, i+1)
	return true
}

// send writes batch, and once more without those that Consul names as the
// reason for refusing it, until each is written or refused.
func (c *committer) send(batch []*request) {
	for len(batch) > 0 {
		index, refused, err := c.transact(batch)
		if err == nil && len(refused) == 0 {
			settle(batch, index, nil)
			return
		}
		if err != nil {
			settle(batch, 0, err)
			return
		}
		var rest []*request
		for i, r := range batch {
			if why, ok := refused[i]; ok {
				err := fmt.Errorf("%w: %s", errConflict, strings.Join(why, "; "))
				c.suspicion.raise(err) // a missing right is told in the text alone
				settle(batch[i:i+1], 0, err)
			} else {
				rest = append(rest, r)
			}
		}
		batch = rest
	}
}

func settle(batch []*request, index uint64, err error) {
	for _, r := range batch {
		if r.index = index; err != nil {
			r.err = fmt.Errorf("writing %s: %w", r.ops[0].Key, err)
		}
		close(r.done)
	}
}

// transact runs one transaction. Where Consul refuses it, refused holds the
// reasons by the request they concern, at least one.
func (c *committer) transact(batch []*request) (index uint64, refused map[int][]string, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
	defer cancel()
	var txn api.TxnOps
	var owner []int // of each operation, the request
	for i, r := range batch {
		for _, op := range r.ops {
			txn = append(txn, &api.TxnOp{KV: op})
			owner = append(owner, i)
		}
	}
	ok, resp, _, err := c.client.Txn().Txn(txn, query(ctx))
	if err != nil {
		return 0, nil, err
	}
	if !ok {
		refused = map[int][]string{}
		for _, e := range resp.Errors {
			if e.OpIndex >= 0 && e.OpIndex < len(owner) {
				refused[owner[e.OpIndex]] = append(refused[owner[e.OpIndex]], e.What)
			}
		}
		if len(refused) == 0 {
			return 0, nil, errNoConsul
		}
		return 0, refused, nil
	}
	for _, r := range resp.Results {
		if r.KV != nil {
			index = max(index, r.KV.ModifyIndex)
		}
	}
	if index == 0 {
		return 0, nil, errNoConsul
	}
	return index, nil, nil
}
