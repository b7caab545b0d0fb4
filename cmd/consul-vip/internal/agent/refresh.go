package agent

import (
	"context"
	"fmt"
	"time"
)

// queue makes a refresh due.
func (a *active) queue() {
	switch {
	case a.turn != nil:
	case a.address == nil:
		a.turn = a.turns.bind()
	default:
		a.turn = a.turns.refresh()
	}
}

// turnCome returns a channel that closes when the address is to be refreshed.
func (a *active) turnCome() <-chan struct{} {
	if a.turn == nil {
		return nil
	}
	return a.turn.come
}

func (a *active) endTurn() {
	if a.turn != nil {
		a.turn.done()
		a.turn = nil
	}
}

// refresh extends the address's lifetime. While the lock is certain it also binds an
// address that is missing. While it is not, this process may have been paused, and
// another node may own the address: nothing is added to the kernel then, and an
// address that is still there stays until its lifetime or the hold ends.
func (a *active) refresh(ctx context.Context) outcome {
	now, lifetime := a.Now(), kernelLifetime(a.cfg(), a)
	lasts := a.inKernel()
	switch {
	case ctx.Err() != nil, lifetime < time.Second:
		return outcome{} // less than a second is left to extend it by
	case !lasts && !a.Certain():
		return a.drop("its lifetime has ended while the lock is not certain")
	case a.address == nil && a.stillIsolated():
		return outcome{}
	case a.address == nil:
		return a.bindAgain(ctx, now, lifetime)
	case !a.Certain():
		return a.extend(ctx, now, lifetime)
	}
	restored, err := a.address.Refresh(lifetime)
	if err != nil {
		return a.refused(err)
	}
	lasts = lasts && a.inKernel() // else the kernel may have added the address
	if o := a.settle(ctx, now+lifetime, restored || !lasts); o.how != goesOn || a.address == nil || !restored {
		return o
	}
	return a.onRestored(now, lasts)
}

// extend extends the lifetime of an address without adding it. If another program has
// removed it meanwhile, it stays away until the lock is certain.
func (a *active) extend(ctx context.Context, now, lifetime time.Duration) outcome {
	extended, err := a.address.Extend(lifetime)
	switch {
	case err != nil:
		return a.refused(err)
	case !extended:
		return a.drop("it is missing while the lock is not certain")
	}
	return a.settle(ctx, now+lifetime, !a.inKernel())
}

// bindAgain binds an address that had to be unbound while the lock was not certain.
func (a *active) bindAgain(ctx context.Context, now, lifetime time.Duration) outcome {
	address, err := a.kernel.Bind(a.link.index, a.cfg().Prefix, lifetime)
	if err != nil {
		return a.refused(err)
	}
	a.address = address
	o := a.settle(ctx, now+lifetime, true)
	if a.address != nil {
		a.log.Info("bound the address again")
		a.announcing.restart.Set()
	}
	return o
}

// settle looks at the clock and the lock after the kernel has given the address a
// new lifetime. An address that was, or may have been, added while the lock was not
// certain, or after the hold had ended, is removed.
func (a *active) settle(ctx context.Context, until time.Duration, added bool) outcome {
	if (added && (!a.Certain() || ctx.Err() != nil)) || a.Remaining() <= 0 {
		return a.drop("the lock was not certain when the kernel had it")
	}
	a.until.Store(int64(until))
	return outcome{}
}

// drop removes the address until the lock is certain. The kernel may have it still
// although its lifetime has ended: lifetimes stand still while the machine is
// suspended.
func (a *active) drop(reason string) outcome {
	a.until.Store(0)
	if a.address == nil {
		return outcome{}
	}
	if err := a.address.Unbind(); err != nil {
		return outcome{how: failed, err: err, unclean: true}
	}
	a.address = nil
	a.log.Warn("unbound the address until Consul confirms the lock", "reason", reason)
	return outcome{}
}

// onRestored handles that the address was missing and was bound again. Unless its
// lifetime had ended, another program had removed it.
func (a *active) onRestored(now time.Duration, lasted bool) outcome {
	a.announcing.restart.Set()
	if !lasted {
		a.log.Info("bound the address again")
		return outcome{}
	}
	a.rebound = append(a.rebound, now)
	if n := len(a.rebound); n >= rebindLimit && now-a.rebound[n-rebindLimit] < rebindWindow {
		return outcome{how: addressLost,
			err: fmt.Errorf("%w: it was removed %d times within %s", ErrAddressLost, rebindLimit, rebindWindow)}
	}
	a.log.Warn("another program removed the address, bound it again", "times", len(a.rebound))
	return outcome{}
}
