package agent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

var (
	strangerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	errTest     = errors.New("ended by a test")
)

// recorder records the calls that the code under test makes. It is safe for
// concurrent use.
type recorder struct {
	mu    sync.Mutex
	calls []string
}

func (r *recorder) record(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

func (r *recorder) recorded() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.calls...)
}

// fakeVIP is a VIP with a fake lock, wire and kernel, which record what the VIP
// does.
type fakeVIP struct {
	recorder
	vip       *vip
	log       bytes.Buffer // JSON
	born      time.Time
	contender *fakeContender
	hooks     fakeHooks

	// The lock.
	asleep    atomic.Int64 // time that Go's clock has not seen pass
	deadline  atomic.Int64 // the hold deadline on the clock of Now
	uncertain atomic.Bool  // Consul has not confirmed the lock since a pause
	silent    atomic.Bool  // Consul does not answer
	onConfirm func()       // runs when Consul is asked
	lost      atomic.Bool  // another node has the lock, Consul says if it is asked
	known     latest.Latest[struct{}]
	end       lease.End // valid once ctx has ended
	finish    func(lease.End)

	// The wire.
	prove       func(announcer.ProofConfig) error // nil: no station answers
	proof       announcer.Proof
	heardAt     time.Time // when any other station was heard last; zero: never
	witnessed   bool
	keys        *leasestate.State
	mayAnnounce func() bool
	schedule    func() announcer.Schedule
	claims      chan announcer.Claim
	releasedAt  time.Time // when the previous owner sends released; zero: never
	notReady    bool      // the successor has not sent ready

	// The kernel.
	takenErr   error
	foreignErr error // another program has bound the address
	lifetimes  []time.Duration
	expires    time.Time // the end of the latest lifetime
	lapses     int       // how often a refresh came too late
	missing    bool      // the kernel has not got the address, although it was bound
	unbindErr  error
	onBind     func() // runs before the address is bound
	onRefresh  func()
}

func newFakeVIP(change func(*config.VIP)) *fakeVIP {
	f := &fakeVIP{born: time.Now(), contender: &fakeContender{}, claims: make(chan announcer.Claim, 1)}
	f.deadline.Store(int64(time.Hour))
	cfg := config.VIP{
		Prefix: netip.MustParsePrefix("10.77.0.100/32"), DeadMan: 5 * time.Second,
		OnConflict: config.ConflictExit, OnLoss: config.LossExit, Takeover: config.TakeoverProbe,
	}
	if change != nil {
		change(&cfg)
	}
	l := newLink(&net.Interface{Index: 7, Name: "eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, f)
	l.reported = true
	log := hclog.New(&hclog.LoggerOptions{Output: &f.log, JSONFormat: true})
	f.vip = newVIP(cfg, l, nil, shared{f, f, &f.hooks, newTurns(), Owner{}, 40 * time.Second, log})
	return f
}

func (f *fakeVIP) Contend(lock lease.Lock) contender {
	f.contender.Set(lock)
	return f.contender
}

func (f *fakeVIP) State() (*leasestate.State, <-chan struct{}) { return f.keys, nil }

func (f *fakeVIP) Node() string { return "h1" }

// fakeContender records the lock and returns one end after the other from Hold, then
// waits for ctx.
type fakeContender struct {
	mu     sync.Mutex
	lock   lease.Lock
	sets   int
	holds  int
	ends   chan lease.End // nil: none
	closed bool
}

func (c *fakeContender) Set(lock lease.Lock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lock = lock
	c.sets++
}

func (c *fakeContender) Hold(ctx context.Context, _ func(context.Context, *lease.Held) lease.Left) lease.End {
	c.mu.Lock()
	c.holds++
	c.mu.Unlock()
	select {
	case end := <-c.ends:
		return end
	case <-ctx.Done():
		return lease.End{Kind: lease.Stopped, Reason: context.Cause(ctx)}
	}
}

func (c *fakeContender) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// last returns the lock as it was last set.
func (c *fakeContender) last() lease.Lock {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lock
}

// reconfigure changes the VIP's configuration while it runs.
func (f *fakeVIP) reconfigure(change func(*config.VIP)) {
	cfg := *f.vip.cfg()
	change(&cfg)
	f.vip.change(cfg)
}

// A hold.

func (f *fakeVIP) Now() time.Duration       { return time.Since(f.born) + time.Duration(f.asleep.Load()) }
func (f *fakeVIP) Remaining() time.Duration { return time.Duration(f.deadline.Load()) - f.Now() }
func (f *fakeVIP) Certain() bool            { return !f.uncertain.Load() }
func (f *fakeVIP) Bound()                   { f.record("bound") }
func (f *fakeVIP) Ended() lease.End         { return f.end }

func (f *fakeVIP) CertainChanged() <-chan struct{} {
	_, changed := f.known.Get()
	return changed
}

// pause lets time pass that Go's clock does not see, after which the lock is not
// certain.
func (f *fakeVIP) pause(d time.Duration) {
	f.asleep.Add(int64(d))
	f.uncertain.Store(true)
}

// confirm lets Consul confirm the lock.
func (f *fakeVIP) confirm() {
	f.uncertain.Store(false)
	f.known.Set(struct{}{})
}

// Confirm asks only if the lock is not certain, or at most a quarter of a second may
// have passed.
func (f *fakeVIP) Confirm(ctx context.Context, since time.Duration) error {
	if f.Certain() && f.Now()-since > defendWithin {
		return nil
	}
	f.record("confirm")
	if f.onConfirm != nil {
		f.onConfirm()
	}
	if f.lost.Load() {
		f.finish(lease.End{Kind: lease.LockLost, Reason: lease.ErrLockLost})
	}
	if !f.silent.Load() && !f.lost.Load() {
		f.confirm()
	}
	for !f.Certain() || f.silent.Load() {
		select {
		case <-f.CertainChanged():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return ctx.Err()
}

// Close ends nothing.
func (f *fakeVIP) Close() {}

// A kernel.

func (f *fakeVIP) Bind(_ int, _ netip.Prefix, lifetime time.Duration) (bound, error) {
	f.record("bind")
	if f.onBind != nil {
		f.onBind()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.foreignErr != nil {
		return nil, f.foreignErr
	}
	f.live(lifetime)
	return f, nil
}

func (f *fakeVIP) Own(mac net.HardwareAddr) (bool, error) { return bytes.Equal(mac, ownMAC), nil }

func (f *fakeVIP) Foreign(netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.foreignErr
}

// A bound address.

func (f *fakeVIP) Refresh(lifetime time.Duration) (restored bool, err error) {
	f.callOnRefresh()
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().After(f.expires) {
		f.missing = true
		f.lapses++
	}
	restored = f.missing
	f.live(lifetime)
	return restored, nil
}

func (f *fakeVIP) Extend(lifetime time.Duration) (extended bool, err error) {
	f.callOnRefresh()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.missing || time.Now().After(f.expires) {
		return false, nil
	}
	f.live(lifetime)
	return true, nil
}

// callOnRefresh calls what a test wants to happen during a refresh or an extension.
func (f *fakeVIP) callOnRefresh() {
	f.mu.Lock()
	onRefresh := f.onRefresh
	f.mu.Unlock()
	if onRefresh != nil {
		onRefresh()
	}
}

// live gives the address a lifetime. The caller has locked mu.
func (f *fakeVIP) live(lifetime time.Duration) {
	f.lifetimes = append(f.lifetimes, lifetime)
	f.expires = time.Now().Add(lifetime)
	f.missing = false
}

// remove removes the address, as another program does or the end of its lifetime.
func (f *fakeVIP) remove() {
	f.mu.Lock()
	f.missing = true
	f.mu.Unlock()
	f.vip.missing.Set()
}

// refreshes returns the lifetimes that the kernel was told.
func (f *fakeVIP) refreshes() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lifetimes)
}

func (f *fakeVIP) Taken() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.takenErr
}

func (f *fakeVIP) Unbind() error {
	f.record("unbind")
	return f.unbindErr
}

// stopper ends a hold.
type stopper func(lease.End)

// serve runs the VIP's serve, and test beside it. It returns the outcome of serve, or
// fails the test if serve has not ended when test returns.
func (f *fakeVIP) serve(t *testing.T, facts tenure, test func(stopper)) outcome {
	t.Helper()
	ended := f.startServing(facts)
	synctest.Wait()
	test(f.finish)
	synctest.Wait()
	select {
	case o := <-ended:
		f.finish(stopped)
		return o
	default:
		f.finish(stopped)
		<-ended
		require.Fail(t, "still serving")
		return outcome{}
	}
}

// startServing runs the VIP's serve until finish is called.
func (f *fakeVIP) startServing(facts tenure) <-chan outcome {
	ctx, cancel := context.WithCancel(context.Background())
	f.finish = func(end lease.End) {
		f.end = end
		cancel()
	}
	facts.hold = f
	ended := make(chan outcome, 1)
	go func() { ended <- f.vip.serve(ctx, facts, f) }()
	return ended
}

// stopped is the end of a hold that the process has stopped.
var stopped = lease.End{Kind: lease.Stopped, Reason: errTest}

// stopAtOnce and endsByItself are tests for serve.
func stopAtOnce(stop stopper) { stop(stopped) }
func endsByItself(stopper)    {}

// The facts of some tenures.
var (
	// free: nobody can have the address.
	free = tenure{previous: leasestate.Record{State: leasestate.RecordReleased, Node: "h2"}}
	// crashed: the kernel of h2 may have it.
	crashed = tenure{previous: leasestate.Record{State: leasestate.RecordHeld, Node: "h2"}, before: []leasestate.Before{h2}}
	// unknown: somebody may have it.
	unknown = tenure{before: []leasestate.Before{{}}}
	// transferred: h2 serves until it sends released.
	transferred = tenure{
		previous: leasestate.Record{State: leasestate.RecordHandover, From: "h2", Node: "h1", Owner: h2.Owner},
		before:   []leasestate.Before{h2},
	}

	h2 = leasestate.Before{Node: "h2", Owner: Owner{MAC: "02:00:00:00:00:02"}.encode(), TTL: "15s"}
	h3 = leasestate.Before{Node: "h3", Owner: Owner{MAC: "02:00:00:00:00:03"}.encode(), TTL: "20s"}
)
