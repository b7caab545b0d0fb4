package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

// ErrConflict says that another station claims a VIP.
var ErrConflict = errors.New("address conflict")

// ConflictError is an ErrConflict with its particulars.
type ConflictError struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // the claimant's
	// Received is when the kernel got the frame; zero where the claimant
	// answered a question instead.
	Received time.Time
	// Quit says that the process is configured to end as if it were stopped.
	Quit bool
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%v: %s claims %s", ErrConflict, e.MAC, e.Addr)
}

// Unwrap makes the error an ErrConflict, and one after which the next owner had
// better make sure for itself.
func (e *ConflictError) Unwrap() []error { return []error{ErrConflict, lease.ErrUnclean} }

// handleConflict decides on a claim by another station. Against a claim there is
// nothing to hold once the kernel has taken the address away, or after a pause
// in which the lock was lost: then it is the successor that claims.
func (a *active) handleConflict(ctx context.Context, claim announcer.Claim) error {
	if a.paused() > 0 || a.held.Now() >= a.until {
		if err := a.refresh(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	policy := a.cfg().OnConflict
	conflict := &ConflictError{Addr: a.cfg().Addr(), MAC: claim.MAC, Received: claim.Received, Quit: policy == config.ConflictQuit}
	switch policy {
	case config.ConflictExit, config.ConflictQuit:
		return conflict
	case config.ConflictDefend:
		err := a.verify(ctx, a.held)
		switch {
		case ctx.Err() != nil:
			return nil // Hold knows why
		case errors.Is(err, lease.ErrLockLost):
			return err
		case err != nil:
			return errors.Join(conflict, err)
		}
		a.announcing.restart.Set()
	}
	a.log.Warn("address conflict", "mac", claim.MAC.String(), "on_conflict", string(policy))
	// Claims that come meanwhile wait in the channel, as one.
	a.claims, a.calm = nil, time.After(defendInterval)
	return nil
}
