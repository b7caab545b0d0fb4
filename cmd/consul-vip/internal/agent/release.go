package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/consul-vip/consul-vip/lease"
)

// release stops announcing and unbinds, because of err or else of what ended
// ctx, and returns err with what went wrong. In between, it gives an handover the
// time to be ready, so that the address is missing for as short as can be.
func (v *vip) release(ctx context.Context, handover handover, address bound, announcing *announcing, err error) error {
	reason := err
	if reason == nil {
		reason = context.Cause(ctx)
	}
	transferred := errors.Is(reason, lease.ErrHandedOver)
	announcing.stop()
	if transferred && !handover.AwaitReady(context.WithoutCancel(ctx), readyTimeout) {
		v.log.Warn("the successor did not call for the address, letting go all the same")
	}
	failed := address.Unbind()
	left := time.Now()
	if transferred && failed == nil {
		v.sendReleased()
	}
	v.enter(stateReleasing, reason.Error())
	var args []any
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		v.log.Error("address conflict", "mac", conflict.MAC.String(), "on_conflict", string(v.cfg().OnConflict))
		args = append(args, "reaction", left.Sub(conflict.Received).String())
	}
	if failed != nil {
		v.log.Error("could not unbind the address, the kernel will", "error", failed, "within", v.cfg().DeadMan.String())
		return errors.Join(err, fmt.Errorf("%w: %w", lease.ErrUnclean, failed))
	}
	v.log.Info("released the address", append(args, "reason", reason.Error())...)
	return err
}

// sendReleased tells the successor that it may bind.
func (v *vip) sendReleased() {
	ctx, cancel := context.WithTimeout(context.Background(), releasedTimeout)
	defer cancel()
	if err := v.handing.SendReleased(ctx, v.cfg().Addr()); err != nil {
		v.log.Warn("could not tell the successor, which will ask", "error", err)
	}
}
