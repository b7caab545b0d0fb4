package simconsul

import (
	"context"
	"errors"
	"time"
)

const (
	// rpcHold is how long the servers keep a request for a leader to come
	// (rpc_hold_timeout).
	rpcHold = 7 * time.Second
	// rpcTimeout is how long an agent waits for a server's answer (rpc_client_timeout).
	rpcTimeout = time.Minute
	// connTimeout is how long a connection lasts on which nothing comes through: the
	// interval of its keepalives and their timeout.
	connTimeout = 40 * time.Second
)

const (
	errNoClusterLeader = consulError("No cluster leader")
	errNoServers       = consulError("No known Consul servers")
	errDeadLeader      = consulError("rpc error making call: rpc error getting client: failed to get conn: dial tcp 10.0.0.1:8300: connect: connection refused")
	errRPCTimeout      = consulError("rpc error making call: i/o deadline reached")
)

var errWaited = errors.New("nothing has changed")

// path waits until a packet can pass between the agent and the servers.
func (a *Agent) path(ctx context.Context, r *run) error {
	return a.c.awaitFor(ctx, connTimeout, errRPCTimeout, func() (bool, error) {
		switch {
		case a.run != r:
			return false, errEnded
		case !r.servers:
			return false, errNoServers
		}
		return !a.cut, nil
	})
}

// toLeader takes a request to the leader. Without one it tries again, at growing
// random intervals as Consul does, for as long as hold. A request to a frozen leader
// gets there.
func (a *Agent) toLeader(ctx context.Context, r *run, hold time.Duration) (*leader, error) {
	first, last := time.Now(), time.Duration(0)
	for wait := rpcHold / 16; ; wait *= 2 {
		if err := a.path(ctx, r); err != nil {
			return nil, err
		}
		if err := a.c.hop(ctx, 200*time.Microsecond, time.Millisecond); err != nil {
			return nil, err
		}
		a.c.mu.Lock()
		l, unaware := a.c.leader, a.c.unaware
		pause := last + a.c.latency(0, max(wait-last, 1))
		a.c.mu.Unlock()
		switch {
		case l != nil:
			return l, nil
		case unaware:
			return nil, errDeadLeader
		case time.Since(first) > hold:
			return nil, errNoClusterLeader
		}
		if a.c.Instant {
			pause = wait
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		last = pause
	}
}

// query is a read.
type query struct {
	consistent bool          // the leader proves that it is one
	wait       time.Duration // of a blocking query; 0: it does not block
	// answer takes the answer from a store, under mu. Unless it is the last call it may
	// say that nothing has changed yet.
	answer func(s *store, last bool) (done bool)
}

// read has the leader answer a query. One whose leader is lost is sent again.
func (a *Agent) read(ctx context.Context, r *run, q query) error {
	for {
		l, err := a.toLeader(ctx, r, rpcHold)
		if err != nil {
			return err
		}
		restored := a.c.restorations()
		err = errWaited
		if q.wait > 0 {
			err = a.c.awaitFor(ctx, q.wait, errWaited, func() (bool, error) {
				return a.ask(r, l, q, a.c.restored != restored) // that abandons the store it waits for
			})
		}
		if errors.Is(err, errWaited) {
			timeout := rpcTimeout
			if q.wait > 0 {
				timeout = rpcHold
			}
			err = a.c.awaitFor(ctx, timeout, errRPCTimeout, func() (bool, error) { return a.ask(r, l, q, true) })
		}
		switch {
		case err == nil:
			return a.path(ctx, r)
		case !errors.Is(err, errEOF):
			return err
		}
	}
}

// ask lets a server that was the leader when the query was sent answer it. The error is
// errEOF if it does not exist any more. The caller holds mu.
func (a *Agent) ask(r *run, l *leader, q query, last bool) (done bool, err error) {
	switch {
	case a.run != r:
		return false, errEnded
	case l.isGone() && l.deposed && q.consistent:
		return false, errVerify
	case l.isGone():
		return false, errEOF
	case l.frozen:
		return false, nil
	case l.deposed: // it has thawed and may not know better yet
		return l.answered && !q.consistent && q.answer(l.stale, last), nil
	case l.ready:
		return q.answer(a.c.store, last), nil
	case q.consistent:
		return false, nil
	}
	return q.answer(l.stale, last), nil
}
