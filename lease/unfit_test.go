package lease

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/state"
)

// unfit is the lock of an instance whose service is dead.
func unfit(release bool) Lock {
	lock := ours
	lock.Unfit, lock.UnfitIneligible = errors.New("traefik: status 500"), release
	return lock
}

func settle() {
	time.Sleep(time.Minute)
	synctest.Wait()
}

func TestUnfitOwnerTransfers(t *testing.T) {
	for _, release := range []bool{false, true} {
		pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
			began := time.Now()
			b.contenders[vip].Set(unfit(release))
			<-next.held
			assert.Less(t, time.Since(began), 100*time.Millisecond)
			assert.ErrorContains(t, h.ends(Transferred), state.ErrUnfit.Error())

			// It takes nothing back, whatever its priority, until it is fit.
			better := unfit(release)
			better.Priority, better.PreemptDelay = 1, time.Second
			h = b.holdLock(better)
			settle()
			assert.Empty(t, h.held)
			b.contenders[vip].Set(ours)
			settle()
			assert.Empty(t, h.held, "the owner is fit, and stays")
			o.contenders[vip].Set(unfit(release))
			<-h.held
			next.ends(Transferred)
			h.stops("done")
		})
	}
}

// With nobody fit the owner serves on, and goes to the first that becomes fit.
func TestNobodyIsFit(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		o.contenders[vip].Set(unfit(false))
		settle()
		b.contenders[vip].Set(unfit(false))
		settle()
		require.Empty(t, h.lost)
		o.contenders[vip].Set(ours)
		<-next.held
		h.ends(Transferred)
		next.stops("done")
	})
}

// Without an owner, those that are not fit contend as if they were.
func TestNobodyIsFitAtAStart(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.holdLock(unfit(false))
		<-h.held
		o := b.second()
		next := o.holdLock(ours)
		<-next.held
		h.ends(Transferred)
		next.stops("done")
		require.NoError(t, o.stop())
	})
}

func TestNobodyIsFitAndNobodyMayHaveIt(t *testing.T) {
	pair(t, ours, func(b, o *instance, h, next *hold, _ *Held) {
		o.contenders[vip].Set(unfit(true))
		settle()
		b.contenders[vip].Set(unfit(true))
		assert.ErrorContains(t, h.ends(Released), state.ErrUnfit.Error())
		h = b.holdLock(unfit(true))
		settle()
		require.Empty(t, h.held)
		require.Empty(t, next.held)
		began := time.Now()
		b.contenders[vip].Set(ours)
		<-h.held
		assert.Less(t, time.Since(began), time.Second)
		h.stops("done")
	})
}
