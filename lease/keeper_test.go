package lease

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	vip     = "10.77.0.100"
	lockKey = "p/10.77.0.100/.lock"
	ttl     = 30 * time.Second
)

var ours = Lock{Name: vip, Priority: 100, Owner: `{"interface":"eth0","mac":"02:00:00:00:00:01"}`}

// instance is a Keeper at work on a fake Consul, in a synctest bubble.
type instance struct {
	t      *testing.T
	consul *simconsul.Consul
	keeper *Keeper
	start  time.Time
	asleep atomic.Int64 // time that the machine was suspended, unseen by Go's clock
	stop   func() error // ends Run and returns its error
	token  latest.Wake  // says that the ACL token has changed

	contenders map[string]*Contender
}

// bubble runs test with a Keeper whose boot-time clock is the bubble's.
func bubble(t *testing.T, test func(b *instance)) {
	t.Helper()
	bubbleLogging(t, hclog.NewNullLogger(), test)
}

// bubbleLogging is bubble with a logger.
func bubbleLogging(t *testing.T, log hclog.Logger, test func(b *instance)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &instance{t: t, consul: simconsul.New(t), start: time.Now().Add(1), token: latest.NewWake(), contenders: map[string]*Contender{}}
		client, closeClient := b.consul.Client(consul.Transport)
		defer closeClient()
		b.keeper = New(Config{
			Client: consul.New(client, b.token), Prefix: "p", Service: "s",
			SessionTTL: ttl, CheckTTL: 3 * time.Second, Version: "v", Logger: log,
		})
		b.keeper.now = func() time.Duration { return time.Since(b.start) + time.Duration(b.asleep.Load()) }
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			time.Sleep(time.Nanosecond) // until the test waits for something: first it prepares Consul
			ended <- b.keeper.Run(ctx)
		}()
		b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
		test(b)
		require.NoError(t, b.stop())
	})
}

// hold is one Hold under way.
type hold struct {
	b      *instance
	held   chan *Held
	lost   chan time.Duration // when fn's context ended, since the bubble's start
	result chan End
	cancel context.CancelCauseFunc
	ended  End // as fn saw it, to be read after result
}

// hold starts a Hold whose function waits for the end of its context.
func (b *instance) hold() *hold { return b.holdLock(ours) }

func (b *instance) holdLock(lock Lock) *hold {
	ctx, cancel := context.WithCancelCause(context.Background())
	h := &hold{b: b, held: make(chan *Held, 10), lost: make(chan time.Duration, 10), result: make(chan End, 1), cancel: cancel}
	c := b.contender(lock)
	go func() {
		defer close(h.result)
		end := c.Hold(ctx, func(ctx context.Context, held *Held) Left {
			held.Bound()
			h.held <- held
			<-ctx.Done()
			h.ended = held.Ended()
			h.lost <- time.Since(b.start)
			return Left{}
		})
		if ctx.Err() != nil {
			b.close(lock.Name)
		}
		h.result <- end
	}()
	return h
}

// contender is the one for this lock.
func (b *instance) contender(lock Lock) *Contender {
	c, ok := b.contenders[lock.Name]
	if !ok {
		c = b.keeper.Contend(lock)
		b.contenders[lock.Name] = c
	}
	c.Set(lock)
	return c
}

func (b *instance) close(name string) {
	b.contenders[name].Close()
	delete(b.contenders, name)
}

// release ends the hold as a stop would and returns how it ended.
func (h *hold) release(why string) End {
	h.cancel(errors.New(why))
	return <-h.result
}

// stops ends the hold as a stop would, which loses nothing.
func (h *hold) stops(why string) {
	h.b.t.Helper()
	end := h.release(why)
	require.Contains(h.b.t, []Kind{Stopped, Transferred}, end.Kind, end.Reason)
	require.True(h.b.t, end.Clean)
}

// ends waits for the end of the hold, which has this kind, and returns its reason.
func (h *hold) ends(kind Kind) error {
	h.b.t.Helper()
	end := <-h.result
	require.Equal(h.b.t, kind, end.Kind, end.Reason)
	return end.Reason
}

// run runs fn under the lock and returns how the hold ended.
func (b *instance) run(lock Lock, fn func(context.Context, *Held) Left) End {
	return b.contender(lock).Hold(context.Background(), fn)
}

// holdUntil starts a Hold whose function binds the address, and leaves so when its
// context ends.
func (b *instance) holdUntil(left Left) (serving <-chan struct{}, result <-chan End) {
	return b.holdBy(func(h *Held) { h.Bound() }, left)
}

// holdUnserved starts a Hold whose function never binds the address.
func (b *instance) holdUnserved() (running <-chan struct{}, result <-chan End) {
	return b.holdBy(func(*Held) {}, Left{})
}

func (b *instance) holdBy(begin func(*Held), left Left) (<-chan struct{}, <-chan End) {
	running, result := make(chan struct{}), make(chan End, 1)
	go func() {
		result <- b.run(ours, func(ctx context.Context, h *Held) Left {
			begin(h)
			close(running)
			<-ctx.Done()
			return left
		})
	}()
	return running, result
}

func (b *instance) record() state.Record { return state.ParseRecord(b.consul.Get(lockKey).Value) }
