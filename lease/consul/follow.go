package consul

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

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

// ErrFiltered is a list from which Consul left out everything that the ACL token
// may not read.
var ErrFiltered = errors.New("the ACL token may not read these keys")

// List reads the keys now, from a leader that has made sure that it is one.
func (c *Client) List(ctx context.Context, keys state.Keys) (*state.State, error) {
	pairs, index, err := c.list(ctx, keys.Folder(), 0)
	if err != nil {
		return nil, err
	}
	return state.New(keys, pairs, index), nil
}

// list reads the keys in a folder: at once for index 0, else as soon as something
// has changed since index, or after watchWait.
//
// At index 0 it asks a leader that has made sure that it is one. Without that, the
// answer may be history once Consul has been restarted: a new leader shows the part
// of its log that it has replayed so far, with locks and sessions of long ago.
func (c *Client) list(ctx context.Context, folder string, index uint64) (api.KVPairs, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	options := &api.QueryOptions{WaitIndex: index, WaitTime: watchWait, RequireConsistent: index == 0}
	pairs, meta, err := c.api.KV().List(folder, options.WithContext(ctx))
	switch {
	case err != nil:
		return nil, 0, c.failed("watching "+folder, err)
	case meta.LastIndex == 0:
		// Consul answers 404 with an index for an empty prefix.
		return nil, 0, fmt.Errorf("watching %s: %w", folder, errNoConsul)
	case meta.ResultsFilteredByACLs && len(pairs) == 0:
		// An owner must not take this for the deletion of its lock.
		c.denied.report(ErrFiltered)
		return nil, 0, fmt.Errorf("watching %s: %w", folder, ErrFiltered)
	}
	return pairs, meta.LastIndex, nil
}

// Follow yields the keys, now and whenever they change, until ctx ends. It yields
// an error for each failed try, before it pauses for the next one.
func (c *Client) Follow(ctx context.Context, keys state.Keys) iter.Seq2[*state.State, error] {
	return func(yield func(*state.State, error) bool) {
		var (
			index uint64
			pause Backoff
			pace  = rate.NewLimiter(watchRate, watchBurst)
		)
		for pace.Wait(ctx) == nil {
			pairs, now, err := c.list(ctx, keys.Folder(), index)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if !yield(nil, err) {
					return
				}
				index = 0 // Consul may return with another history
				pause.Wait(ctx)
				continue
			case now < index:
				// A restored snapshot or new servers: read anew instead of waiting for an
				// index that may be far away.
				now = 0
			case now != index && !yield(state.New(keys, pairs, now), nil):
				return
			}
			pause.Reset()
			index = now
		}
	}
}

// ReadLock reads the key of a lock from a leader that has made sure that it is
// one. A key that does not exist is the zero Lock.
func (c *Client) ReadLock(ctx context.Context, key string) (state.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	free, err := c.writer.slot(ctx)
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
