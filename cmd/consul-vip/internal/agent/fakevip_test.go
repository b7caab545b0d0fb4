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
	"github.com/consul-vip/consul-vip/lease"
)

var (
	foreign = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	errTest = errors.New("ended by a test")
)

// world is everything around a VIP, and a log of what the VIP did to it.
type world struct {
	vip *vip

	mu   sync.Mutex
	did  []string
	born time.Time

	// the lock
	asleep   atomic.Int64  // time that passed unseen by Go's clock
	deadline time.Duration // the hold deadline on the clock of Now
	since    time.Duration // when the lock was known to be ours
	verdict  error         // Verify's answer

	// the wire
	answer      error // Ask's
	asking      func()
	mayAnnounce func() bool
	rhythm      func() announcer.Schedule
	claims      chan announcer.Claim

	// the succession
	yielded  bool // the last owner has said that it let go
	uncalled bool // the successor has not said that it is there

	// the kernel
	taken     error
	lifetimes []time.Duration
	missing   bool // the address was removed by someone else
	refused   error
	binding   func()
}

func newWorld(change func(*config.VIP)) *world {
	w := &world{born: time.Now(), deadline: time.Hour, claims: make(chan announcer.Claim, 1)}
	cfg := config.VIP{
		Prefix: netip.MustParsePrefix("10.77.0.100/32"), DeadMan: 5 * time.Second,
		OnConflict: config.ConflictExit, OnLoss: config.LossExit, Takeover: config.TakeoverProbe,
	}
	if change != nil {
		change(&cfg)
	}
	l := newLink(&net.Interface{Index: 7, Name: "eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, nil)
	w.vip = newVIP(cfg, l, w, w, hclog.NewNullLogger())
	return w
}

// reconfigure changes the VIP's configuration while it runs.
func (w *world) reconfigure(change func(*config.VIP)) {
	cfg := *w.vip.cfg()
	change(&cfg)
	w.vip.change(cfg)
}

func (w *world) do(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, what)
}

func (w *world) deeds() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.did...)
}

// hold
func (w *world) Now() time.Duration { return time.Since(w.born) + time.Duration(w.asleep.Load()) }

func (w *world) Since() time.Duration { return w.since }

func (w *world) Remaining() time.Duration { return w.deadline - w.Now() }

func (w *world) Verify(context.Context) error {
	w.do("verify")
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.verdict
}

func (w *world) Serving() { w.do("serving") }

// wire
func (w *world) Probe(_ context.Context, q announcer.ProbeConfig) error {
	w.do("ask " + q.Target.String())
	if w.asking != nil {
		w.asking()
	}
	return w.answer
}

func (w *world) Announce(ctx context.Context, a announcer.Announcement, again <-chan struct{}) error {
	w.mayAnnounce, w.rhythm = a.MayAnnounce, a.Schedule
	w.do("announce")
	defer w.do("silence")
	for {
		select {
		case <-again:
			w.do("announce again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) Listen(netip.Addr) listener { return w }

// succession
func (w *world) Handover(netip.Addr) handover { return w }

func (w *world) SendReady(_ context.Context, _ netip.Addr, owner net.HardwareAddr) error {
	w.do("call " + owner.String())
	return nil
}

func (w *world) SendReleased(context.Context, netip.Addr) error {
	w.do("yield")
	return nil
}

// handover
func (w *world) AwaitReady(context.Context, time.Duration) bool {
	w.do("await a call")
	return !w.uncalled
}

func (w *world) AwaitReleased(_ context.Context, owner net.HardwareAddr, _ time.Duration) bool {
	w.do("await " + owner.String())
	return w.yielded
}

// listener
func (w *world) Claims() <-chan announcer.Claim { return w.claims }

func (w *world) Close() {}

// kernel
func (w *world) Bind(_ int, _ netip.Prefix, lifetime time.Duration) (bound, error) {
	w.do("bind")
	if w.binding != nil {
		w.binding()
	}
	w.lifetimes = append(w.lifetimes, lifetime)
	return w, nil
}

// bound
func (w *world) Refresh(lifetime time.Duration) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lifetimes = append(w.lifetimes, lifetime)
	restored := w.missing
	w.missing = false
	return restored, nil
}

func (w *world) Taken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken
}

func (w *world) Unbind() error {
	w.do("unbind")
	return w.refused
}

// serving runs serve until test has done its part, and returns serve's error.
func serving(w *world, last lease.Record, test func(stop context.CancelCauseFunc)) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.vip.serve(ctx, last, w, w) }()
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

func stopped(stop context.CancelCauseFunc) { stop(errTest) }

var released = lease.Record{State: lease.StateReleased, Node: "h2"}
