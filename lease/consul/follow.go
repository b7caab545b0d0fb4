package consul

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// watchWait is how long a blocking query waits for a change. A query that was
	// forwarded to a leader hangs when that leader's host dies, because nothing
	// resets the connection between the servers; a takeover then waits for it.
	watchWait = 3 * time.Second
	// watchTimeout adds up to a 16th of the wait, as the agent does, and a second
	// for the answer.
	watchTimeout = watchWait + watchWait/16 + time.Second

	// The query wakes on every write below the prefix, and for an empty prefix on
	// every write to the whole KV store. The rate keeps it from spinning; the burst
	// lets an ordinary takeover pass without a pause.
	watchRate  = 50 // queries per second
	watchBurst = 20
)

// ErrFiltered is a list from which Consul left out something, because the ACL token may
// not read it. It is an error only where nothing is left.
var ErrFiltered = errors.New("the ACL token may not read these keys")

// rereadTimeouts are the deadlines of the first tries to read the keys anew; the last
// one serves for all later tries. The caller can do nothing before the answer, and
// the answer of a healthy leader takes milliseconds. A leader that is slow gets
// longer.
var rereadTimeouts = [...]time.Duration{time.Second, 2 * time.Second, 4 * time.Second}

// rereadPause is the pause after a try to read the keys anew has failed.
const rereadPause = 200 * time.Millisecond

// Answer is what Consul has said about the keys.
type Answer struct {
	*state.State
	// Sent is when the request was sent. The State shows every write that was
	// committed before that, if the answer is Consistent. Else it may come from a
	// leader that does not know yet that another one has taken its place.
	Sent       time.Duration
	Consistent bool
}

// List reads the keys now, from a leader that has made sure that it is one.
func (c *Client) List(ctx context.Context, keys state.Keys) (*state.State, error) {
	list, err := c.list(ctx, keys.Folder(), 0, watchTimeout)
	if err != nil {
		return nil, err
	}
	return state.Next(nil, keys, list), nil
}

// list reads the keys in a folder: at once for index 0, else as soon as something
// has changed since index, or after watchWait.
//
// At index 0 it asks a leader that has made sure that it is one. Without that, the
// answer may be history once Consul has been restarted: a new leader shows the part
// of its log that it has replayed so far, with locks and sessions of long ago.
func (c *Client) list(ctx context.Context, folder string, index uint64, timeout time.Duration) (state.List, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	options := &api.QueryOptions{WaitIndex: index, WaitTime: watchWait, RequireConsistent: index == 0}
	pairs, meta, err := c.api.KV().List(folder, options.WithContext(ctx))
	switch {
	case err != nil:
		return state.List{}, c.failed("watching "+folder, err)
	case meta.LastIndex == 0:
		// Consul answers 404 with an index for an empty prefix.
		return state.List{}, fmt.Errorf("watching %s: %w", folder, errNoConsul)
	}
	filtered := meta.ResultsFilteredByACLs
	if filtered {
		c.denied.report(ErrFiltered)
	}
	if filtered && len(pairs) == 0 {
		// An owner must not take this for the deletion of its lock.
		return state.List{}, fmt.Errorf("watching %s: %w", folder, ErrFiltered)
	}
	return state.List{Pairs: pairs, Index: meta.LastIndex, Filtered: filtered}, nil
}

// Follow yields the keys, now and whenever they change, until ctx ends. Where they
// do not change it yields the same State again, at least every few seconds, because
// the age of the answer counts. It yields an error for each failed try, before it
// pauses for the next one.
//
// A receive from reread, which may be nil, means that the caller needs an answer to
// a request that is sent from then on. The query or the pause under way is broken
// off for it, and a leader that has made sure that it is one is asked, again and
// again until it answers. Wakes that come during such a request lead to another one
// after it. Now is the clock of Answer.Sent.
func (c *Client) Follow(ctx context.Context, keys state.Keys, now func() time.Duration, reread latest.Wake) iter.Seq2[Answer, error] {
	return func(yield func(Answer, error) bool) {
		f := &follower{client: c, keys: keys, now: now, reread: reread}
		pace := rate.NewLimiter(watchRate, watchBurst)
		for pace.Wait(ctx) == nil {
			answer, err := f.read(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if !yield(Answer{}, err) {
					return
				}
				f.wait(ctx)
			case answer.State != nil && !yield(answer, nil):
				return
			}
		}
	}
}

// follower is one Follow under way. It belongs to the goroutine of its caller.
type follower struct {
	client *Client
	keys   state.Keys
	now    func() time.Duration
	reread latest.Wake

	last      *state.State // as last yielded
	index     uint64       // to wait for a change since; 0: read at once
	rereading bool         // somebody waits for a consistent answer
	failed    int          // tries since then
	pause     Backoff
}

// read sends one query. Its Answer has no State, without an error, where the query
// was broken off or where its answer is not to be trusted.
func (f *follower) read(ctx context.Context) (Answer, error) {
	select {
	case <-f.reread: // the request is yet to be sent
		f.beginReread()
	default:
	}
	timeout := watchTimeout
	wanted := func() bool { return false }
	if f.rereading {
		timeout = rereadTimeouts[min(f.failed, len(rereadTimeouts)-1)]
	} else {
		ctx, wanted = f.untilReread(ctx)
	}
	asked, written := f.index, f.client.writer.written.Load()
	answer := Answer{Sent: f.now(), Consistent: asked == 0}
	list, err := f.client.list(ctx, f.keys.Folder(), asked, timeout)
	brokenOff := wanted()
	switch {
	case err == nil:
		answer.State = f.take(list, asked, written)
	case !brokenOff:
		f.index = 0 // Consul may return with another history
		f.failed++
		return Answer{}, err
	}
	if brokenOff {
		f.beginReread()
	}
	return answer, nil
}

// take returns the State of a list, which is the last one where nothing has
// changed, or nil for a list that is not to be trusted.
//
// Before the request was sent, this process had written at the index written. A lower
// index goes back as well, although no answer has shown the write.
func (f *follower) take(list state.List, asked, written uint64) *state.State {
	f.pause.Reset()
	f.rereading, f.failed = false, 0
	f.index = list.Index
	switch {
	case list.Index < asked, asked != 0 && list.Index < written:
		// A restored snapshot, new servers, or a new leader that has not replayed its
		// log: read anew instead of waiting for an index that may be far away.
		f.index = 0
		return nil
	case list.Index == asked && !list.Filtered && !f.last.Filtered && len(list.Pairs) == f.last.Count:
		return f.last // what the token may read changes without the index
	case f.last != nil:
		list.History = f.last.History
	}
	if list.Index < written || (f.last != nil && list.Index < f.last.Index) {
		list.History++
		f.client.writer.written.CompareAndSwap(written, list.Index)
	}
	f.last = state.Next(f.last, f.keys, list)
	return f.last
}

// beginReread makes the next queries those of a reread.
func (f *follower) beginReread() {
	if !f.rereading {
		f.rereading, f.failed, f.index = true, 0, 0
	}
}

// wait pauses after a failure.
func (f *follower) wait(ctx context.Context) {
	if f.rereading {
		Sleep(ctx, rereadPause)
		return
	}
	ctx, wanted := f.untilReread(ctx)
	f.pause.Wait(ctx)
	if wanted() {
		f.beginReread()
	}
}

// untilReread is ctx until there is a receive from reread. Wanted ends it and
// reports whether that has happened.
func (f *follower) untilReread(ctx context.Context) (until context.Context, wanted func() bool) {
	until, cancel := context.WithCancel(ctx)
	var (
		received bool
		waiting  sync.WaitGroup
	)
	waiting.Go(func() {
		select {
		case <-f.reread:
			received = true
			cancel()
		case <-until.Done():
		}
	})
	return until, func() bool {
		cancel()
		waiting.Wait()
		return received
	}
}

// ReadLock reads the key of a lock from a leader that has made sure that it is
// one. A key that does not exist is the zero Lock.
func (c *Client) ReadLock(ctx context.Context, key string) (state.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	ctx, free, err := c.writer.slot(ctx)
	if err != nil {
		return state.Lock{}, fmt.Errorf("reading %s: %w", key, err)
	}
	defer free()
	pair, meta, err := c.api.KV().Get(key, consistent(ctx))
	switch {
	case err != nil:
		return state.Lock{}, c.failed("reading "+key, err)
	case pair == nil && meta.LastIndex == 0:
		return state.Lock{}, fmt.Errorf("reading %s: %w", key, errNoConsul)
	case pair == nil:
		return state.Lock{}, nil
	}
	return state.NewLock(pair), nil
}
