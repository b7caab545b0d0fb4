package agent

import (
	"context"
	"errors"
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

	// probeSlack is how long before the end of a probe a claim may have come that the
	// probe has not seen. An older one would have been an answer.
	probeSlack = announcer.ProbeWindow / 2
)

// takeoverWire is the wire as a takeover uses it: *announcer.Wire.
type takeoverWire interface {
	SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr, n announcer.Nonce) error
	Probe(ctx context.Context, p announcer.ProbeConfig) error
}

// awaitFree returns when no previous owner's kernel has the address any more, and
// since when that is so. It knows it from the record, which was written after the
// address had left the kernel; from the owner's released frame in a handover; or
// from probes without an answer.
func (v *vip) awaitFree(ctx context.Context, t tenure, handover handover) (since time.Time, o outcome) {
	began := time.Now()
	if o := v.awaitLink(ctx); o.how != goesOn {
		return began, o
	}
	since = began
	usable, stop := v.whileUsable(ctx)
	defer stop()
	before := t.before
	if t.handedOver() && v.exchangeReady(usable, t, handover) {
		since, before = time.Now(), t.others()
	}
	if v.cfg().Takeover == config.TakeoverStrict && len(before) > 0 {
		before = v.awaitTTL(usable, t, before, began, handover)
		since = time.Now()
	}
	if len(before) > 0 || t.stranger != nil {
		o = v.probe(usable, t, before)
		since = time.Now().Add(-probeSlack)
	}
	switch {
	case ctx.Err() != nil:
		o = outcome{how: holdEnded}
	case usable.Err() != nil:
		o = outcome{how: linkDown, err: errLinkDown}
	}
	return since, o
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
	owner := macOf(t.previous.Owner)
	for range readyTries {
		if err := v.link.wire.SendReady(ctx, v.cfg().Addr(), owner, announcer.Nonce{}); err != nil && ctx.Err() == nil {
			v.log.Warn("could not send ready", "error", err)
		}
		if handover.AwaitReleased(ctx, owner, announcer.Nonce{}, releasedTimeout) {
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
	if t.handedOver() && len(before) == len(t.before) && handover.AwaitReleased(ctx, macOf(t.previous.Owner), announcer.Nonce{}, max(0, left())) {
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

// probe goes on when no station answers for the address any more. A station that
// still answers after the TTL of everybody before is a stranger. A known stranger
// that answers has the address still.
func (v *vip) probe(ctx context.Context, t tenure, before []leasestate.Before) outcome {
	began := time.Now()
	target, timeout := net.HardwareAddr(nil), v.ttlOf(before)
	if len(before) > 0 {
		target = macOf(before[0].Owner)
	}
	var answeredBy net.HardwareAddr
	var err error
	suspect := t.suspect(before)
	if suspect != nil {
		answeredBy, err = v.probeOnce(ctx, suspect, 0)
	}
	if suspect == nil || (len(before) > 0 && err == nil && answeredBy.String() != suspect.String()) {
		answeredBy, err = v.probeOnce(ctx, target, timeout)
	}
	probedFor := time.Since(began).Round(time.Millisecond).String()
	switch {
	case ctx.Err() != nil:
		return outcome{how: holdEnded}
	case answeredBy != nil:
		o := v.stillContested(t, announcer.Claim{MAC: answeredBy})
		v.logConflict(o, "probed_for", probedFor)
		return o
	case err != nil:
		return v.unprobed(err)
	}
	v.log.Info("no station answers for the address", "probed_for", probedFor)
	return outcome{}
}

// suspect is the MAC of a known stranger that is nobody before.
func (t tenure) suspect(before []leasestate.Before) net.HardwareAddr {
	if t.stranger == nil {
		return nil
	}
	mac, _ := net.ParseMAC(t.stranger.MAC)
	for _, b := range before {
		if macOf(b.Owner).String() == mac.String() {
			return nil
		}
	}
	return mac
}

// probeOnce probes until no station answers, or for that long. It returns the MAC
// that still answers then.
func (v *vip) probeOnce(ctx context.Context, target net.HardwareAddr, timeout time.Duration) (answeredBy net.HardwareAddr, err error) {
	err = v.link.wire.Probe(ctx, announcer.ProbeConfig{Addr: v.cfg().Addr(), Target: target, Timeout: timeout})
	var inUse *announcer.InUseError
	if errors.As(err, &inUse) {
		return inUse.MAC, nil
	}
	return nil, err
}

// unprobed is the outcome of a probe that proves nothing. If no frame can be sent
// although the link is up, the address is left to others for a while: this node may
// be the best placed one and would take the lock again and again.
func (v *vip) unprobed(err error) outcome {
	if !errors.Is(err, announcer.ErrNotSent) {
		return outcome{how: failed, err: err}
	}
	backOff := v.fitness.fail(err)
	v.log.Warn("no frame can be sent, leaving the address to others", "for", backOff.String(), "error", err)
	return outcome{how: notSent, err: err}
}

// macOf returns the MAC of an owner, or nil where the owner does not tell. Frames to
// it are then broadcast.
func macOf(owner leasestate.Owner) net.HardwareAddr {
	mac, _ := net.ParseMAC(DecodeOwner(owner).MAC)
	return mac
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
