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

// defendInterval limits how often this host answers claims.
const defendInterval = time.Second

// ErrConflict says that another station claims a VIP.
var ErrConflict = errors.New("address conflict")

// ConflictError is an ErrConflict with its details.
type ConflictError struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // of the other station
	// Received is when the kernel received the claim. It is zero if the other station
	// answered a probe instead.
	Received time.Time
	// Quit says that the process is configured to end as if it were stopped.
	Quit bool
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%v: %s claims %s", ErrConflict, e.MAC, e.Addr)
}

// Unwrap returns ErrConflict, and lease.ErrUnclean so that the next owner probes.
func (e *ConflictError) Unwrap() []error { return []error{ErrConflict, lease.ErrUnclean} }

// handleConflict reacts to a claim by another station as on_conflict says. Once the
// kernel has removed the address there is nothing to defend. After a pause it first
// verifies the lock: if that is lost, the claim comes from the successor.
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
		err := verify(ctx, a.held)
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
	// Until calm fires, the listener keeps the latest claim.
	a.claims, a.calm = nil, time.After(defendInterval)
	return nil
}
