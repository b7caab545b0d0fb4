package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/lease"
)

// readyTimeout is how long the owner waits for ready after it has transferred the
// lock. The successor may be busy with many addresses.
const readyTimeout = 500 * time.Millisecond

// releaseWire is the wire as a release uses it: *announcer.Wire.
type releaseWire interface {
	SendReleased(ctx context.Context, addr netip.Addr) error
}

// release stops announcing and unbinds the address. The reason is err or, if that is
// nil, the cause of ctx. In a handover it first waits until the successor is ready,
// which makes the time without an owner as short as possible. It returns err, joined
// with lease.ErrUnclean if the address could not be unbound.
func (v *vip) release(ctx context.Context, handover handover, a *active, err error) error {
	defer a.listener.Close()
	reason := err
	if reason == nil {
		reason = context.Cause(ctx)
	}
	transferred := errors.Is(reason, lease.ErrTransferred)
	a.announcing.stop()
	if transferred && !handover.AwaitReady(context.WithoutCancel(ctx), readyTimeout) {
		v.log.Warn("no ready from the successor, releasing anyway")
	}
	failed := a.address.Unbind()
	unbound := time.Now()
	if transferred && failed == nil {
		v.sendReleased()
	}
	v.enter(stateReleasing, reason.Error())
	var fields []any
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		v.log.Error("address conflict", "mac", conflict.MAC.String(), "on_conflict", string(v.cfg().OnConflict))
		fields = append(fields, "reaction", unbound.Sub(conflict.Received).String())
	}
	if failed != nil {
		v.log.Error("could not unbind the address, its lifetime ends", "error", failed, "within", v.cfg().DeadMan.String())
		return errors.Join(err, fmt.Errorf("%w: %w", lease.ErrUnclean, failed))
	}
	v.log.Info("released the address", append(fields, "reason", reason.Error())...)
	return err
}

// sendReleased tells the successor that it may bind the address.
func (v *vip) sendReleased() {
	ctx, cancel := context.WithTimeout(context.Background(), releasedTimeout)
	defer cancel()
	if err := v.link.wire.SendReleased(ctx, v.cfg().Addr()); err != nil {
		v.log.Warn("could not send released, the successor will probe", "error", err)
	}
}
