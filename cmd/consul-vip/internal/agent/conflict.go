package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/config"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

const (
	// defendInterval limits how often this host answers claims.
	defendInterval = time.Second

	// confirmTimeout is how long Consul has to confirm the lock before a claim counts
	// as a conflict.
	confirmTimeout = time.Second
	// defendWithin is how old the confirmation may be with which the address is
	// defended: the next owner announces it as soon as it has the lock.
	defendWithin = 250 * time.Millisecond

	// lateAnswer is how long after released an answer of the previous owner may come.
	// Ethernet keeps the order of frames to one station only, not of those to everybody.
	lateAnswer = 25 * time.Millisecond
)

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

// Unwrap returns ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// handleClaim reacts to a claim by another station as on_conflict says. A claim from
// before the address was free comes from a previous owner, and so does, for a while,
// one of a host that was found dead and is back. One of a member, or one that comes
// while the lock is not certain, may come from the next owner.
func (a *active) handleClaim(ctx context.Context, claim announcer.Claim) outcome {
	if claim.Received.Before(a.freed.since) || a.mayBeLate(claim) {
		return outcome{}
	}
	if a.mayReturn(claim.MAC) {
		return a.onReturned(ctx, claim)
	}
	if o, over := a.doubt(ctx, claim); over {
		return o
	}
	policy := a.cfg().OnConflict
	switch policy {
	case config.ConflictLog:
	case config.ConflictDefend:
		err := a.confirm(ctx, defendWithin)
		switch {
		case ctx.Err() != nil:
			return outcome{how: holdEnded}
		case err != nil:
			return a.onClaim(a.tenure, claim)
		}
		a.announcing.restart.Set()
	default:
		return a.onClaim(a.tenure, claim)
	}
	a.log.Warn("address conflict", "mac", claim.MAC.String(), "on_conflict", string(policy))
	a.pauseClaims()
	return outcome{}
}

// mayBeLate reports whether a claim may be an answer of a previous owner that released,
// which was broadcast, has overtaken.
func (a *active) mayBeLate(claim announcer.Claim) bool {
	return a.handedOver() && claim.Received.Sub(a.freed.since) < lateAnswer && DecodeOwner(a.previous.Owner).host().Has(claim.MAC)
}

// awaitsReturn reports whether a previous owner that was taken for dead may still come
// back with the address, until its lifetime ends.
func (a *active) awaitsReturn() bool {
	return len(a.freed.silent) > 0 && a.Now()-a.began < a.cfg().DeadMan+time.Second
}

// mayReturn reports whether a claim can be from a previous owner that has not noticed
// yet that it has lost the address.
func (a *active) mayReturn(mac net.HardwareAddr) bool {
	return a.awaitsReturn() && slices.ContainsFunc(a.freed.silent, func(h announcer.Host) bool { return h.Has(mac) })
}

// onHeard announces the address to a host that is heard again, if it may be one that
// comes back with it.
func (a *active) onHeard() {
	if a.awaitsReturn() {
		a.announcing.restart.Set()
	}
}

// onReturned announces the address against a previous owner that is back, so that it
// notices, unless Consul says that the lock has become its own again.
func (a *active) onReturned(ctx context.Context, claim announcer.Claim) outcome {
	_ = a.confirm(ctx, 0) // without an answer it is ours as far as anybody knows
	if ctx.Err() != nil {
		return outcome{how: holdEnded}
	}
	a.log.Info("a previous owner is back, announcing the address", "mac", claim.MAC.String())
	a.announcing.restart.Set()
	a.pauseClaims()
	return outcome{}
}

// pauseClaims handles no claim for a while. Until calm fires, the listener keeps the
// latest.
func (a *active) pauseClaims() { a.claims, a.calm = nil, time.After(defendInterval) }

// doubt unbinds the address at once if the claim may come from the next owner, and
// asks Consul. A member that has found this host dead has taken the lock before it
// claims the address, so its claim is not answered until Consul has said whose the
// lock is, however long that takes. It returns whether the claim is settled by that.
func (a *active) doubt(ctx context.Context, claim announcer.Claim) (o outcome, over bool) {
	keys, _ := a.locks.State()
	node := MemberWith(keys, claim.MAC)
	certain := a.Certain() && a.inKernel()
	if certain && node == "" {
		return outcome{}, false
	}
	began := a.Now()
	o = a.drop("another station claims the address")
	switch {
	case o.how != goesOn:
		return o, true
	case node != "":
		_ = a.Confirm(ctx, began) // its error is ctx's
	default:
		_ = a.confirm(ctx, longestGap) // without an answer it is a conflict
	}
	if ctx.Err() != nil {
		return outcome{how: holdEnded}, true
	}
	a.queue()
	return outcome{}, false
}

// confirm asks Consul, if it must, whether the lock is still ours.
func (a *active) confirm(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	return a.Confirm(ctx, a.Now()-within)
}

// onClaim is the outcome of a claim that ends the service of the address. The first
// claim of a stranger ends the process, unless on_conflict is "contend". Another one
// within ten minutes is the address's own affair: it must not move the others.
func (v *vip) onClaim(t tenure, claim announcer.Claim) outcome {
	if t.stranger != nil && t.stranger.MAC == claim.MAC.String() {
		return v.stillContested(t, claim)
	}
	policy := v.cfg().OnConflict
	o := outcome{
		how:       conflict,
		err:       &ConflictError{Addr: claim.Addr, MAC: claim.MAC, Received: claim.Received, Quit: policy == config.ConflictQuit},
		contested: &leasestate.Contested{MAC: claim.MAC.String()},
	}
	if policy == config.ConflictContend {
		o.how = contested
	}
	return o
}

// stillContested is the outcome when a stranger claims the address that had it
// before, or answers probes and does not go away.
func (v *vip) stillContested(t tenure, claim announcer.Claim) outcome {
	tries := 1
	if t.stranger != nil {
		tries = t.stranger.Tries + 1
	}
	return outcome{
		how:       contested,
		err:       &ConflictError{Addr: v.cfg().Addr(), MAC: claim.MAC, Received: claim.Received},
		contested: &leasestate.Contested{MAC: claim.MAC.String(), Tries: tries},
	}
}

// logConflict logs the stranger that o tells of, if any.
func (v *vip) logConflict(o outcome, fields ...any) {
	switch o.how {
	case conflict:
		v.log.Error("address conflict", append(fields, "mac", o.contested.MAC, "on_conflict", string(v.cfg().OnConflict))...)
	case contested:
		v.log.Error("address contested", append(fields, "mac", o.contested.MAC, "tries", o.contested.Tries)...)
	}
}

// conflictFields returns as a log field how soon the address was unbound after a
// claim.
func (o outcome) conflictFields(unbound time.Time) []any {
	var e *ConflictError
	if !errors.As(o.err, &e) || e.Received.IsZero() {
		return nil
	}
	return []any{"reaction", unbound.Sub(e.Received).String()}
}
