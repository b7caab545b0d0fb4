package simconsul

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	lockTTL       = 15 * time.Second // of the session of "consul lock"
	lockRetry     = 5 * time.Second  // after a lock-delay, or an error
	unlockTimeout = 5 * time.Second
)

// ConsulLock does what the command "consul lock" does on the agent's host: it locks the
// key as soon as that is possible, runs held, and releases the key. Its session has
// Consul's own lock-delay of 15 s. It returns when held has, or with the end of ctx;
// the context of held ends with the lock.
func (a *Agent) ConsulLock(ctx context.Context, key string, held func(ctx context.Context)) error {
	l := foreignLock{client: a.Client(nil), key: key}
	if err := l.begin(ctx); err != nil {
		return err
	}
	defer l.end()
	ctx, cancel := context.WithCancel(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { l.renew(ctx, cancel) })
	defer renewal.Wait()
	defer cancel()
	if err := l.acquire(ctx); err != nil {
		return err
	}
	renewal.Go(func() { l.watch(ctx, cancel) })
	held(ctx)
	return nil
}

// foreignLock is the lock of another program than consul-vip.
type foreignLock struct {
	client       *api.Client
	key, session string
}

func (l *foreignLock) begin(ctx context.Context) error {
	for {
		entry := &api.SessionEntry{Name: "Consul API Lock", TTL: lockTTL.String(), LockDelay: defaultLockDelay}
		id, _, err := l.client.Session().Create(entry, (&api.WriteOptions{}).WithContext(ctx))
		if err == nil {
			l.session = id
			return nil
		}
		if err := sleep(ctx, lockRetry); err != nil {
			return err
		}
	}
}

// renew ends when the session has ended, and then ends the lock.
func (l *foreignLock) renew(ctx context.Context, lost func()) {
	defer lost()
	for sleep(ctx, lockTTL/2) == nil {
		entry, _, err := l.client.Session().Renew(l.session, (&api.WriteOptions{}).WithContext(ctx))
		if err == nil && entry == nil {
			return
		}
	}
}

// acquire ends when the key is locked.
func (l *foreignLock) acquire(ctx context.Context) error {
	for {
		p := &api.KVPair{Key: l.key, Flags: api.LockFlagValue, Session: l.session}
		ok, _, err := l.client.KV().Acquire(p, (&api.WriteOptions{}).WithContext(ctx))
		if ok && err == nil {
			return nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		var index uint64
		for { // until it is free
			o := (&api.QueryOptions{WaitIndex: index, WaitTime: lockTTL}).WithContext(ctx)
			p, meta, err := l.client.KV().Get(l.key, o)
			if err != nil || p == nil || p.Session == "" {
				break
			}
			index = meta.LastIndex
		}
	}
}

// watch ends when the key is not locked by the session any more, and then ends the
// lock.
func (l *foreignLock) watch(ctx context.Context, lost func()) {
	defer lost()
	var index uint64
	for ctx.Err() == nil {
		o := (&api.QueryOptions{WaitIndex: index, WaitTime: lockTTL, RequireConsistent: true}).WithContext(ctx)
		p, meta, err := l.client.KV().Get(l.key, o)
		switch {
		case err != nil:
			index = 0
			_ = sleep(ctx, lockRetry)
		case p == nil || p.Session != l.session:
			return
		default:
			index = meta.LastIndex
		}
	}
}

// end releases the key and ends the session, if Consul answers in time.
func (l *foreignLock) end() {
	ctx, cancel := context.WithTimeout(context.Background(), unlockTimeout)
	defer cancel()
	o := (&api.WriteOptions{}).WithContext(ctx)
	_, _, _ = l.client.KV().Release(&api.KVPair{Key: l.key, Flags: api.LockFlagValue, Session: l.session}, o)
	_, _ = l.client.Session().Destroy(l.session, o)
}
