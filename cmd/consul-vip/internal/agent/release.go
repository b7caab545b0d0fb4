package agent

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// readyTimeout is how long the owner waits for ready after it has transferred the
// lock. The successor may be busy with many addresses.
const readyTimeout = 500 * time.Millisecond

// releaseWire is the wire as a release uses it: *announcer.Wire.
type releaseWire interface {
	SendReleased(ctx context.Context, addr netip.Addr, successor net.HardwareAddr, n announcer.Nonce) error
}

// release stops announcing and unbinds the address, because of o. In a handover it
// first waits until the successor is ready, which makes the time without an owner as
// short as possible, if this host still has the address.
func (v *vip) release(ctx context.Context, handover handover, a *active, o outcome) outcome {
	reason, transferred, end := o.err, false, lease.End{}
	var word leasestate.Record // the record that tells the successor of the handover
	if o.how == holdEnded {
		end = a.Ended()
		reason, transferred = end.Reason, end.Kind == lease.Transferred
		if end.Handover != nil {
			word = *end.Handover
		}
	}
	a.announcing.stop()
	if transferred && a.address != nil && !handover.AwaitReady(context.WithoutCancel(ctx), v.readyNonce(word), readyTimeout) {
		v.log.Warn("no ready from the successor, releasing anyway")
	}
	failed := a.unbind()
	fields := o.conflictFields(time.Now())
	if transferred && failed == nil {
		v.sendReleased(word)
	}
	v.onLeft(o, end.Kind, reason.Error())
	v.fitness.served(a.Now() - a.began)
	if o.how == foreign {
		v.recheckForeign() // the address that was removed may have been that program's
	}
	v.enter(stateReleasing, reason.Error())
	v.logConflict(o)
	if failed != nil {
		v.log.Error("could not unbind the address, its lifetime ends", "error", failed, "within", v.cfg().DeadMan.String())
		o.unclean = true
		return o
	}
	v.log.Info("released the address", append(fields, "reason", reason.Error())...)
	return o
}

// unbind removes the address from the kernel for good.
func (a *active) unbind() error {
	a.until.Store(0)
	if a.address == nil {
		return nil
	}
	return a.address.Unbind()
}

// sendReleased tells the successor that it may bind the address, directly and by
// broadcast.
func (v *vip) sendReleased(word leasestate.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), releasedTimeout)
	defer cancel()
	if err := v.link.wire.SendReleased(ctx, v.cfg().Addr(), v.successorMAC(word), nonceOf(word)); err != nil {
		v.log.Warn("could not send released, the successor will probe", "error", err)
	}
}

// readyNonce is the nonce that ready carries. A successor of an older version, which does
// not describe its host either, knows of none.
func (v *vip) readyNonce(word leasestate.Record) announcer.Nonce {
	if keys, _ := v.locks.State(); keys != nil && keys.Members[word.Node].Owner == "" {
		return announcer.Nonce{}
	}
	return nonceOf(word)
}

// successorMAC is the MAC of the node that a handover names, on this segment; nil
// where it has told none.
func (v *vip) successorMAC(word leasestate.Record) net.HardwareAddr {
	if h := v.memberHost(word.Node); len(h.MACs) > 0 {
		return h.MACs[0]
	}
	return nil
}
