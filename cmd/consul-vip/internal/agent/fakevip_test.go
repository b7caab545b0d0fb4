package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
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
	vip  *vip
	born time.Time

	// The lock.
	asleep    atomic.Int64  // time that Go's clock has not seen pass
	deadline  time.Duration // the hold deadline on the clock of Now
	since     time.Duration // when the lock was known to be held
	verifyErr error
	onVerify  func() // runs after Consul has answered, before the answer is read

	// The wire.
	probeErr     error
	onProbe      func()
	mayAnnounce  func() bool
	schedule     func() announcer.Schedule
	claims       chan announcer.Claim
	releasedSent bool // the previous owner has sent released
	notReady     bool // the successor has not sent ready

	// The kernel.
	takenErr  error
	lifetimes []time.Duration
	missing   bool // another program has removed the address
	unbindErr error
	onBind    func()
}

func newFakeVIP(change func(*config.VIP)) *fakeVIP {
	f := &fakeVIP{born: time.Now(), deadline: time.Hour, claims: make(chan announcer.Claim, 1)}
	cfg := config.VIP{
		Prefix: netip.MustParsePrefix("10.77.0.100/32"), DeadMan: 5 * time.Second,
		OnConflict: config.ConflictExit, OnLoss: config.LossExit, Takeover: config.TakeoverProbe,
	}
	if change != nil {
		change(&cfg)
	}
	l := newLink(&net.Interface{Index: 7, Name: "eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, f)
	f.vip = newVIP(cfg, l, f, nil, Owner{}, hclog.NewNullLogger())
	return f
}

// reconfigure changes the VIP's configuration while it runs.
func (f *fakeVIP) reconfigure(change func(*config.VIP)) {
	cfg := *f.vip.cfg()
	change(&cfg)
	f.vip.change(cfg)
}

// A hold.

func (f *fakeVIP) Now() time.Duration       { return time.Since(f.born) + time.Duration(f.asleep.Load()) }
func (f *fakeVIP) Since() time.Duration     { return f.since }
func (f *fakeVIP) Remaining() time.Duration { return f.deadline - f.Now() }
func (f *fakeVIP) Serving()                 { f.record("serving") }

func (f *fakeVIP) Verify(context.Context) error {
	f.record("verify")
	f.mu.Lock()
	err, onVerify := f.verifyErr, f.onVerify
	f.mu.Unlock()
	if onVerify != nil {
		onVerify()
	}
	return err
}

// A segment.

func (f *fakeVIP) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *fakeVIP) SetHardwareAddr(net.HardwareAddr) {}

func (f *fakeVIP) Probe(_ context.Context, p announcer.ProbeConfig) error {
	f.record("probe " + p.Target.String())
	if f.onProbe != nil {
		f.onProbe()
	}
	return f.probeErr
}

func (f *fakeVIP) Announce(ctx context.Context, a announcer.Announcement, restart <-chan struct{}) error {
	f.mayAnnounce, f.schedule = a.MayAnnounce, a.Schedule
	f.record("announce")
	defer f.record("stop announcing")
	for {
		select {
		case <-restart:
			f.record("announce again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeVIP) Listen(netip.Addr) listener { return f }

func (f *fakeVIP) SendReady(_ context.Context, _ netip.Addr, owner net.HardwareAddr) error {
	f.record("send ready to " + owner.String())
	return nil
}

func (f *fakeVIP) SendReleased(context.Context, netip.Addr) error {
	f.record("send released")
	return nil
}

func (f *fakeVIP) Handover(netip.Addr) handover { return f }

// A handover and a listener.

func (f *fakeVIP) AwaitReady(context.Context, time.Duration) bool {
	f.record("await ready")
	return !f.notReady
}

func (f *fakeVIP) AwaitReleased(_ context.Context, owner net.HardwareAddr, _ time.Duration) bool {
	f.record("await released from " + owner.String())
	return f.releasedSent
}

func (f *fakeVIP) Claims() <-chan announcer.Claim { return f.claims }
func (f *fakeVIP) Close()                         {}

// A kernel.

func (f *fakeVIP) Bind(_ int, _ netip.Prefix, lifetime time.Duration) (bound, error) {
	f.record("bind")
	if f.onBind != nil {
		f.onBind()
	}
	f.lifetimes = append(f.lifetimes, lifetime)
	return f, nil
}

// A bound address.

func (f *fakeVIP) Refresh(lifetime time.Duration) (restored bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lifetimes = append(f.lifetimes, lifetime)
	restored = f.missing
	f.missing = false
	return restored, nil
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

// serve runs the VIP's serve, and test beside it. It returns the error of serve, or
// another one if serve has not ended when test returns.
func (f *fakeVIP) serve(previous leasestate.Record, test func(stop context.CancelCauseFunc)) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.vip.serve(ctx, previous, f, f) }()
	synctest.Wait()
	test(cancel)
	synctest.Wait()
	select {
	case err := <-ended:
		cancel(nil)
		return err
	default:
		cancel(errTest)
		return errors.Join(errors.New("still serving"), <-ended)
	}
}

// run starts the VIP's run. stop ends it and returns its error; if it has ended by
// itself, ended has the error.
func (f *fakeVIP) run() (stop func() error, ended <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- f.vip.run(ctx) }()
	synctest.Wait()
	return func() error {
		cancel()
		return <-result
	}, result
}

// stopAtOnce and endsByItself are tests for serve.
func stopAtOnce(stop context.CancelCauseFunc) { stop(errTest) }
func endsByItself(context.CancelCauseFunc)    {}

// released is a record after which nothing has to be awaited.
var released = leasestate.Record{State: leasestate.RecordReleased, Node: "h2"}
