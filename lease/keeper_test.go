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
}

// bubble runs test with a Keeper whose boot-time clock is the bubble's.
func bubble(t *testing.T, test func(b *instance)) {
	synctest.Test(t, func(t *testing.T) {
		b := &instance{t: t, consul: simconsul.New(t), start: time.Now(), token: latest.NewWake()}
		client, closeClient := b.consul.Client(consul.Transport)
		defer closeClient()
		b.keeper = New(Config{
			Client: consul.New(client, b.token), Prefix: "p", Service: "s",
			SessionTTL: ttl, CheckTTL: 3 * time.Second, Version: "v", Logger: hclog.NewNullLogger(),
		})
		b.keeper.now = func() time.Duration { return time.Since(b.start) + time.Duration(b.asleep.Load()) }
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- b.keeper.Run(ctx) }()
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
	result chan error
	cancel context.CancelCauseFunc
	cause  error // of the end of fn's context, to be read after result
}

// hold starts a Hold whose function waits for the end of its context.
func (b *instance) hold() *hold { return b.holdLock(ours) }

func (b *instance) holdLock(lock Lock) *hold {
	ctx, cancel := context.WithCancelCause(context.Background())
	h := &hold{b: b, held: make(chan *Held, 10), lost: make(chan time.Duration, 10), result: make(chan error, 1), cancel: cancel}
	go func() {
		defer close(h.result)
		h.result <- b.keeper.Hold(ctx, lock, func(ctx context.Context, held *Held) error {
			held.Serving()
			h.held <- held
			<-ctx.Done()
			h.cause = context.Cause(ctx)
			h.lost <- time.Since(b.start)
			return nil
		})
	}()
	return h
}

// release ends the hold as a stop would and returns what Hold returned.
func (h *hold) release(why string) error {
	h.cancel(errors.New(why))
	return <-h.result
}

// holdUntil starts a Hold whose function serves, and returns err when its
// context ends.
func (b *instance) holdUntil(err error) (serving <-chan struct{}, result <-chan error) {
	return b.holdBy(func(h *Held) { h.Serving() }, err)
}

// holdUnserved starts a Hold whose function never serves.
func (b *instance) holdUnserved() (running <-chan struct{}, result <-chan error) {
	return b.holdBy(func(*Held) {}, nil)
}

func (b *instance) holdBy(begin func(*Held), err error) (<-chan struct{}, <-chan error) {
	running, result := make(chan struct{}), make(chan error, 1)
	go func() {
		result <- b.keeper.Hold(context.Background(), ours, func(ctx context.Context, h *Held) error {
			begin(h)
			close(running)
			<-ctx.Done()
			return err
		})
	}()
	return running, result
}

func (b *instance) record() state.Record { return state.ParseRecord(b.consul.Get(lockKey).Value) }
