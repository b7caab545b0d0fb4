package lease

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// preparation counts what Prepare and Kept of a lock are called for.
type preparation struct {
	takes       time.Duration
	calls, kept atomic.Int32
	reason      atomic.Pointer[error]
}

// lock is ours with a Prepare that takes so long.
func (p *preparation) lock(timeout time.Duration) Lock {
	lock := ours
	lock.PrepareTimeout = timeout
	lock.Prepare = func(ctx context.Context, reason error) {
		p.calls.Add(1)
		p.reason.Store(&reason)
		select {
		case <-time.After(p.takes):
		case <-ctx.Done():
		}
	}
	lock.Kept = func() { p.kept.Add(1) }
	return lock
}

// The lock stays while Prepare runs, for its timeout at most, and goes then.
func TestPrepareComesBeforeTheEnd(t *testing.T) {
	for name, end := range map[string]struct {
		leave  func(b *instance, h *hold)
		alone  bool // no other member is there
		kind   Kind
		reason string
	}{
		"drained":               {func(b *instance, _ *hold) { b.drain("h1") }, false, Transferred, state.ErrDrained.Error()},
		"stopped":               {func(_ *instance, h *hold) { h.cancel(assert.AnError) }, false, Transferred, assert.AnError.Error()},
		"stopped alone":         {func(_ *instance, h *hold) { h.cancel(assert.AnError) }, true, Stopped, assert.AnError.Error()},
		"pinned to nobody":      {func(b *instance, _ *hold) { b.consul.Put(pinKey, state.Nobody, "") }, false, Released, state.ErrNobody.Error()},
		"drained, then stopped": {func(b *instance, h *hold) { b.drain("h1"); time.Sleep(time.Second); h.cancel(assert.AnError) }, false, Transferred, state.ErrDrained.Error()},
	} {
		for takes, want := range map[time.Duration]time.Duration{3 * time.Second: 3 * time.Second, time.Hour: 5 * time.Second} {
			t.Run(name, func(t *testing.T) {
				p := &preparation{takes: takes}
				bubble(t, func(b *instance) {
					h := b.holdLock(p.lock(5 * time.Second))
					<-h.held
					if !end.alone {
						o := b.second()
						next := o.holdLock(ours)
						defer func() {
							_ = next.release("done")
							require.NoError(t, o.stop())
						}()
					}
					time.Sleep(5 * time.Second)
					began := time.Now()
					end.leave(b, h)
					h.ends(end.kind)
					assert.InDelta(t, want.Seconds(), time.Since(began).Seconds(), 0.1)
					assert.Equal(t, int32(1), p.calls.Load())
					assert.ErrorContains(t, *p.reason.Load(), end.reason)
					assert.Zero(t, p.kept.Load())
				})
			})
		}
	}
}

// A lock that is lost is lost at once, whatever Prepare does.
func TestPrepareDoesNotDelayALoss(t *testing.T) {
	p := &preparation{takes: time.Hour}
	pair(t, p.lock(time.Hour), func(b, _ *instance, h, _ *hold, _ *Held) {
		b.drain("h1")
		time.Sleep(time.Second)
		require.Equal(t, int32(1), p.calls.Load())
		before := time.Since(b.start)
		b.consul.Delete(lockKey)
		assert.Equal(t, before, <-h.lost)
		h.ends(LockLost)
	})
}

// A lock that nobody serves yet needs no Prepare.
func TestPrepareIsForServedLocks(t *testing.T) {
	p := &preparation{takes: time.Hour}
	bubble(t, func(b *instance) {
		ctx, cancel := context.WithCancelCause(context.Background())
		c := b.contender(p.lock(time.Hour))
		running, ended := make(chan struct{}), make(chan End)
		go func() {
			ended <- c.Hold(ctx, func(ctx context.Context, _ *Held) Left {
				close(running)
				<-ctx.Done()
				return Left{}
			})
		}()
		<-running
		cancel(assert.AnError)
		assert.Equal(t, Stopped, (<-ended).Kind)
		assert.Zero(t, p.calls.Load())
		b.close(vip)
	})
}

// Kept tells that the lock stays after all, and Prepare comes again before the next try.
func TestKept(t *testing.T) {
	p := &preparation{takes: 3 * time.Second}
	pair(t, p.lock(5*time.Second), func(b, _ *instance, h, next *hold, _ *Held) {
		var tries atomic.Int32
		b.consul.On(simconsul.Only("/v1/txn", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(body(r), `"Verb":"unlock"`) && tries.Add(1) == 1 {
				return simconsul.Answer(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"no"}]}`)(w, r)
			}
			return false
		}))
		began := time.Now()
		b.drain("h1")
		<-next.held
		assert.Equal(t, 2*p.takes+retryDelay, time.Since(began))
		assert.Equal(t, int32(2), p.calls.Load())
		assert.Equal(t, int32(1), p.kept.Load())
		h.ends(Transferred)
		b.consul.On(nil)
	})
}

// What is not wanted any more when Prepare returns does not happen.
func TestPrepareInVain(t *testing.T) {
	p := &preparation{takes: 3 * time.Second}
	pair(t, p.lock(5*time.Second), func(b, _ *instance, h, next *hold, _ *Held) {
		b.drain("h1")
		time.Sleep(time.Second)
		b.undrain("h1")
		settle()
		require.Empty(t, next.held)
		assert.Equal(t, int32(1), p.calls.Load())
		assert.Equal(t, int32(1), p.kept.Load())
		h.stops("done")
	})
}

func TestFailing(t *testing.T) {
	lock := ours
	lock.Failing = assert.AnError
	pair(t, lock, func(b, o *instance, h, next *hold, _ *Held) {
		v, _ := o.keeper.latest.Get()
		assert.Equal(t, map[string][]string{assert.AnError.Error(): {vip}}, v.Members["h1"].Failing)
		assert.Empty(t, v.Members["h2"].Failing, "it holds nothing")
		assert.Contains(t, v.Remarks(vip), "failing on h1: "+assert.AnError.Error())
		b.contenders[vip].Set(ours)
		time.Sleep(time.Second)
		synctest.Wait()
		v, _ = o.keeper.latest.Get()
		assert.Empty(t, v.Members["h1"].Failing)
		h.stops("done")
		<-next.held
	})
}
