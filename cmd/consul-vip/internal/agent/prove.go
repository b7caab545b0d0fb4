package agent

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// errReleasedLate ends a proof because the owner that hands over has sent released
// after all.
var errReleasedLate = errors.New("the previous owner has released the address")

// prove goes on when everybody's kernel that may have had the address has let it go.
// A station that still answers after the TTL of everybody before is a stranger. A
// known stranger that answers has the address still.
func (v *vip) prove(ctx context.Context, t tenure, before []leasestate.Before, handover handover) (f freed, o outcome) {
	began := time.Now()
	f.since = began
	proof, err := v.proveOrHearReleased(ctx, t, before, handover)
	provedFor := time.Since(began).Round(10 * time.Microsecond).String()
	var inUse *announcer.InUseError
	switch {
	case ctx.Err() != nil:
		return f, outcome{how: holdEnded}
	case errors.As(err, &inUse):
		o := v.stillContested(t, announcer.Claim{MAC: inUse.MAC})
		v.logConflict(o, "probed_for", provedFor)
		return f, o
	case err != nil:
		return f, v.unproved(err)
	}
	if proof.By != announcer.ProvedByAnswer {
		f.silent = v.ownersBefore(before)
	}
	v.log.Info("no station has the address", "proof", proof.By.String(), "rounds", proof.Rounds, "took", provedFor)
	f.since = proof.Since
	return f, outcome{}
}

// proveOrHearReleased proves that everybody before has let the address go. The owner
// that hands over may still send released, which is the best proof.
func (v *vip) proveOrHearReleased(ctx context.Context, t tenure, before []leasestate.Before, handover handover) (announcer.Proof, error) {
	if !t.handedOver() || len(before) < len(t.before) {
		return v.proveOnce(ctx, t, before)
	}
	proving, released := context.WithCancelCause(ctx)
	heard := make(chan bool, 1)
	go func() {
		ok := handover.AwaitReleased(proving, macOf(t.previous.Owner), nonceOf(t.previous), -1)
		if ok {
			released(errReleasedLate)
		}
		heard <- ok
	}()
	proof, err := v.proveOnce(proving, t, before)
	released(nil)
	if !<-heard || err == nil || ctx.Err() != nil {
		return proof, err
	}
	v.log.Info("the previous owner has released the address", "from", t.previous.From)
	if others := t.others(); len(others) > 0 || t.stranger != nil {
		return v.proveOnce(ctx, t, others)
	}
	return announcer.Proof{Since: time.Now()}, nil // nobody is left to ask
}

// proveOnce asks the wire.
func (v *vip) proveOnce(ctx context.Context, t tenure, before []leasestate.Before) (announcer.Proof, error) {
	addr := v.cfg().Addr()
	state, _ := v.link.state.Get()
	keys, _ := v.locks.State()
	c := announcer.ProofConfig{
		Addr:      addr,
		Source:    state.identity.Source(addr),
		Owners:    v.ownersBefore(before),
		Witnesses: witnesses(keys, state, announcer.Of(addr), ""),
		Timeout:   v.ttlOf(before),
	}
	if suspect := t.suspect(before); suspect != nil {
		c.Strangers = []net.HardwareAddr{suspect}
	}
	return v.link.wire.Prove(ctx, c)
}

// ownersBefore returns the hosts whose kernels may have the address. A member of which
// only the name is known has described its host. A record of this host's own tells
// nothing: what this kernel has shows when the address is bound, but the record may come
// from a restored snapshot, and somebody else may have had the lock since.
func (v *vip) ownersBefore(before []leasestate.Before) (hosts []announcer.Host) {
	for _, b := range before {
		h := DecodeOwner(b.Owner).host()
		if b.Owner == "" {
			h = v.memberHost(b.Node)
		}
		if len(h.MACs) > 0 {
			if own, err := v.kernel.Own(h.MACs[0]); own && err == nil {
				h = announcer.Host{}
			}
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// suspect is the MAC of a known stranger that is nobody before.
func (t tenure) suspect(before []leasestate.Before) net.HardwareAddr {
	if t.stranger == nil {
		return nil
	}
	mac, _ := net.ParseMAC(t.stranger.MAC)
	for _, b := range before {
		if DecodeOwner(b.Owner).host().Has(mac) {
			return nil
		}
	}
	return mac
}

// unproved is the outcome of a proof that did not come about. If no frame can be sent
// although the link is up, the address is left to others for a while: this node may
// be the best placed one and would take the lock again and again.
func (v *vip) unproved(err error) outcome {
	if !errors.Is(err, announcer.ErrNotSent) {
		return outcome{how: failed, err: err}
	}
	return v.leaveToOthers("no frame can be sent", err)
}

// leaveToOthers is the outcome when this host cannot serve the address for a reason that
// concerns no other one.
func (v *vip) leaveToOthers(reason string, err error) outcome {
	backOff := v.fitness.fail(err)
	v.log.Warn(reason+", leaving the address to others", "for", backOff.String(), "error", err)
	return outcome{how: unable, err: err}
}
