package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Release asks the instance that holds the address vip to release it, once: it
// transfers it to the best placed of the others or, where there is none, releases
// it and leaves it to others for ten seconds. Release waits for that.
//
// Nothing is written where no instance holds the address. The error is ErrPending
// if ctx ended before it was released; a request that was not accepted by then is
// withdrawn.
func (o *Operator) Release(ctx context.Context, vip string) (Outcome, error) {
	s, err := o.readKnown(ctx, vip)
	if err != nil {
		return Outcome{}, err
	}
	c := begin(s, vip)
	if c.from == "" {
		return Outcome{}, fmt.Errorf("no instance holds %s: %s", vip, s.Situation(vip))
	}
	key, session := o.keys.Release(vip), s.Locks[vip].Session
	index, err := o.put(ctx, key, c.from)
	if err != nil {
		return Outcome{}, err
	}
	s, err = o.await(ctx, vip, func(s *state.State) bool {
		return s.LockKnown(vip) && s.Locks[vip].Session != session && settled(s, vip, c.from)
	})
	if s == nil || s.Filtered || s.Requests[vip].Index == index {
		// Left in Consul, it would speak to the next instance of this name.
		if failed := o.withdraw(ctx, key, index); failed != nil {
			err = fmt.Errorf("%w; the release request is still there: %w", cmp.Or(err, ErrPending), failed)
		}
	}
	if err != nil {
		return c.pending(), err
	}
	return c.outcome(s), nil
}

// withdraw deletes a release request, even if ctx has ended. It is no error if the
// request was accepted in the meantime.
func (o *Operator) withdraw(ctx context.Context, key string, index uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := o.remove(ctx, key, index); !errors.Is(err, consul.ErrConflict) {
		return err
	}
	return nil
}

// Withhold pins the address vip to nobody and waits until no instance holds it.
// Then it is free, or held by another program that has waited for its lock. It
// stays so until the pin is changed or deleted. The error is ErrPending if ctx
// ended before the owner had released it; the pin stays.
func (o *Operator) Withhold(ctx context.Context, vip string) (Outcome, error) {
	s, err := o.readKnown(ctx, vip)
	if err != nil {
		return Outcome{}, err
	}
	c := begin(s, vip)
	if _, err := o.put(ctx, o.keys.Pin(vip), state.Nobody); err != nil {
		return Outcome{}, err
	}
	s, err = o.await(ctx, vip, func(s *state.State) bool {
		status, _ := s.Owner(vip)
		return status == state.StatusFree || status == state.StatusForeign
	})
	if err != nil {
		return c.pending(), err
	}
	return c.outcome(s), nil
}
