package simconsul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// ErrNoLeader is the error of a write while the servers have no leader.
var ErrNoLeader = errors.New("no cluster leader")

// ErrRefused is the error of a write that Consul refuses.
var ErrRefused = errors.New("refused")

var errClosed = errors.New("the simulated Consul is closed")

// Config describes a [Cluster].
type Config struct {
	// Rand is the source of all randomness. NewCluster draws from it, nothing else does.
	Rand *rand.Rand
	// Instant is for unit tests: requests take no time, and no TTL runs out, so that a
	// test decides itself when a session ends.
	Instant bool
	// SerfTimeout is how long after an agent went silent the others take its node for
	// failed. 0 draws 4 to 9 s each time.
	SerfTimeout time.Duration
	// Changed hears of each key that changes, Log of what happens in the cluster, in
	// words. They are called in order, under the cluster's mutex: they must not block,
	// nor call the cluster.
	Changed func(Change)
	Log     func(string)
}

// Change is the change of one key. The pairs are immutable; New is nil for a key that
// was deleted, Old for one that is new.
type Change struct {
	Index    uint64
	Key      string
	Old, New *api.KVPair
	Reason   string
}

// Cluster is a simulated Consul: servers that replicate one store, and a client agent
// on each host. Create it with [NewCluster] in a synctest bubble and end it with
// [Cluster.Close]. Its methods are safe for concurrent use and do not block.
type Cluster struct {
	Config
	ctx    context.Context // of all that the cluster does by itself
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex // guards all following fields; nothing waits with it
	rand   *rand.Rand
	closed bool
	news   chan struct{} // closed at the next change of anything, by tell

	store   *store
	history []*store // the last stores before this one, oldest first
	reaped  time.Time
	// restored counts the snapshots that were restored: that ends blocking queries.
	restored int
	// lockDelays are the ends of the lock-delays by key. All servers know them.
	lockDelays map[string]time.Time

	leader    *leader             // nil: none
	unaware   bool                // the servers take a dead one for the leader
	elections int                 // starts of elections so far; the last one decides
	pending   []func(*store) bool // what the next leader commits first
	timers    map[string]*time.Timer
	ids       int

	agents map[string]*Agent
	tokens map[string]Token // nil: ACLs are off
}

// NewCluster returns a cluster with a leader and without agents, keys and sessions. It
// must be closed.
func NewCluster(config Config) *Cluster {
	c := &Cluster{
		Config: config, news: make(chan struct{}), store: newStore(10 + config.Rand.Uint64N(90)),
		rand:       rand.New(rand.NewPCG(config.Rand.Uint64(), config.Rand.Uint64())),
		lockDelays: map[string]time.Time{}, timers: map[string]*time.Timer{}, agents: map[string]*Agent{},
		reaped: time.Now(),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.leader = &leader{ready: true, gone: make(chan struct{})}
	return c
}

// Close ends every request under way and all that the cluster does, and waits for it.
func (c *Cluster) Close() {
	c.mu.Lock()
	c.closed = true
	for _, t := range c.timers {
		t.Stop()
	}
	for _, a := range c.agents {
		a.stop()
	}
	c.tell()
	c.mu.Unlock()
	c.cancel()
	c.tasks.Wait()
}

// tell wakes all that wait for a change. The caller holds mu.
func (c *Cluster) tell() {
	close(c.news)
	c.news = make(chan struct{})
}

// logf says what happened. The caller holds mu.
func (c *Cluster) logf(format string, args ...any) {
	if c.Log != nil {
		c.Log(fmt.Sprintf(format, args...))
	}
}

// await waits until condition, which is called under mu, holds or returns an error; or
// for the end of ctx.
func (c *Cluster) await(ctx context.Context, condition func() (bool, error)) error {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return errClosed
		}
		ok, err := condition()
		news := c.news
		c.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitFor is await for no longer than d; then it returns expired.
func (c *Cluster) awaitFor(ctx context.Context, d time.Duration, expired error, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, expired)
	defer cancel()
	return c.await(ctx, condition)
}

// later does f after d, under mu, unless the cluster is closed by then.
func (c *Cluster) later(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closed {
			f()
		}
	})
}

// between draws a duration. The caller holds mu.
func (c *Cluster) between(low, high time.Duration) time.Duration {
	return low + time.Duration(c.rand.Int64N(int64(max(high-low, 1))))
}

// latency is between, or nothing where the cluster is to be instant.
func (c *Cluster) latency(low, high time.Duration) time.Duration {
	if c.Instant {
		return 0
	}
	return c.between(low, high)
}

// hop takes the time of a packet's way, or of a commit, rarely a long one.
func (c *Cluster) hop(ctx context.Context, low, high time.Duration) error {
	c.mu.Lock()
	d := c.latency(low, high)
	if d > 0 && c.rand.IntN(200) == 0 {
		d *= 20
	}
	c.mu.Unlock()
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newID makes the id of a session. The caller holds mu.
func (c *Cluster) newID() string {
	c.ids++
	a, b := c.rand.Uint64(), c.rand.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", c.ids, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)
}

func serfTimeout(c *Cluster) time.Duration {
	return cmp.Or(c.SerfTimeout, c.between(4*time.Second, 9*time.Second))
}
