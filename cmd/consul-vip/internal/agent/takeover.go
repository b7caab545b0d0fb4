package agent

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

const (
	// readyTries is how often the successor sends ready before it probes: a frame may
	// get lost.
	readyTries = 3
	// releasedTimeout is how long released may take: the owner to send it, and the
	// successor to receive it after each ready.
	releasedTimeout = 50 * time.Millisecond

	// unknownTTL is how long a previous owner may keep answering, at least, if its
	// record does not tell its session TTL.
	unknownTTL = 30 * time.Second
)

// takeoverWire is the wire as a takeover uses it: *announcer.Wire.
type takeoverWire interface {
	SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr, n announcer.Nonce) error
	Prove(ctx context.Context, c announcer.ProofConfig) (announcer.Proof, error)
	HeardSince(mac net.HardwareAddr, t time.Time) bool
}

// freed says since when no other kernel has the address, as far as could be found out.
// Claims from before come from a previous owner.
type freed struct {
	since time.Time
	// silent are the hosts of previous owners that were only silent. If one is not dead,
	// it may have the address still, when it is back, until its lifetime ends.
	silent []announcer.Host
}

// awaitFree returns when no previous owner's kernel has the address any more. It knows
// that from the record, which was written after the address had left the kernel; from
// the owner's released frame in a handover; from the host check, if this lock was taken
// from a dead host; or from a proof on the wire.
func (v *vip) awaitFree(ctx context.Context, t tenure, handover handover) (f freed, o outcome) {
	began := time.Now()
	f.since = began
	if o := v.awaitLink(ctx); o.how != goesOn {
		return f, o
	}
	usable, stop := v.whileUsable(ctx)
	defer stop()
	before := t.before
	if t.handedOver() && v.exchangeReady(usable, t, handover) {
		f.since, before = time.Now(), t.others()
	}
	if v.cfg().Takeover == config.TakeoverStrict && len(before) > 0 {
		before = v.awaitTTL(usable, t, before, began, handover)
		f.since = time.Now()
	}
	switch {
	case len(before) == 0 && t.stranger == nil:
	case v.stillDead(t):
		f.silent = []announcer.Host{t.victim.host}
	default:
		t.victim.doubt()
		f, o = v.prove(usable, t, before, handover)
	}
	switch {
	case ctx.Err() != nil:
		o = outcome{how: holdEnded}
	case usable.Err() != nil:
		o = outcome{how: linkDown, err: errLinkDown}
	}
	return f, o
}

// awaitLink waits until the link is up, for no longer than carrierDebounce.
func (v *vip) awaitLink(ctx context.Context) outcome {
	for {
		state, changed := v.link.state.Get()
		switch {
		case !state.usable:
			return outcome{how: linkDown, err: errLinkDown}
		case state.up:
			return outcome{}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return outcome{how: holdEnded}
		}
	}
}

// whileUsable returns a context that also ends when the link has been down for too
// long. stop must be called; it ends the goroutine that waits for that.
func (v *vip) whileUsable(ctx context.Context) (usable context.Context, stop func()) {
	usable, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		state, changed := v.link.state.Get()
		for ; state.usable && usable.Err() == nil; state, changed = v.link.state.Get() {
			select {
			case <-changed:
			case <-usable.Done():
			}
		}
		cancel()
	})
	return usable, func() {
		cancel()
		watching.Wait()
	}
}

// handedOver reports whether the previous owner has transferred the lock and may
// serve until it sends released.
func (t tenure) handedOver() bool {
	return t.previous.State == leasestate.RecordHandover && t.previous.At == nil && len(t.before) > 0
}

// others returns whose kernels may have the address after released.
func (t tenure) others() []leasestate.Before {
	return slices.DeleteFunc(slices.Clone(t.before), func(b leasestate.Before) bool { return b.Node == t.previous.From })
}

// exchangeReady sends ready and reports whether the owner has answered with
// released.
func (v *vip) exchangeReady(ctx context.Context, t tenure, handover handover) bool {
	owner, nonce := macOf(t.previous.Owner), nonceOf(t.previous)
	for range readyTries {
		if err := v.link.wire.SendReady(ctx, v.cfg().Addr(), owner, nonce); err != nil && ctx.Err() == nil {
			v.log.Warn("could not send ready", "error", err)
		}
		if handover.AwaitReleased(ctx, owner, nonce, releasedTimeout) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	v.log.Warn("no release from the previous owner, probing", "from", t.previous.From)
	return false
}

// awaitTTL waits until no owner before may serve any more, in another part of a
// split network where probes do not reach it. The owner that hands over may still
// send released, which ends the wait for it. It returns whose kernels may have the
// address then.
func (v *vip) awaitTTL(ctx context.Context, t tenure, before []leasestate.Before, began time.Time, handover handover) []leasestate.Before {
	left := func() time.Duration { return v.ttlOf(before) - time.Since(began) }
	v.log.Info("waiting for the previous owner's TTL", "for", v.ttlOf(before).String())
	if t.handedOver() && len(before) == len(t.before) && handover.AwaitReleased(ctx, macOf(t.previous.Owner), nonceOf(t.previous), max(0, left())) {
		v.log.Info("the previous owner has released the address", "from", t.previous.From)
		before = t.others()
	}
	if len(before) > 0 {
		wait(ctx, left())
	}
	return before
}

// ttlOf is how long any of these may keep answering.
func (v *vip) ttlOf(before []leasestate.Before) (longest time.Duration) {
	for _, b := range before {
		longest = max(longest, b.OwnerTTL(max(unknownTTL, v.sessionTTL)))
	}
	return longest
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
