package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

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
