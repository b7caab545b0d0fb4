package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Release asks the instance that has the address vip to give it up, once: it
// hands it to the best placed of the others, or, where there is none, lets it go
// and leaves it alone for ten seconds. It waits for that.
//
// Nothing is written where no instance has the address. The error is ErrPending
// if ctx ended before it was given up; a request that has not been taken up by
// then is taken back.
func (o *Operator) Release(ctx context.Context, vip string) (Outcome, error) {
	s, err := o.readKnown(ctx, vip)
	if err != nil {
		return Outcome{}, err
	}
	_, from := s.owner(vip)
	if from == "" {
		return Outcome{}, fmt.Errorf("no instance has %s to release it: %s", vip, s.situation(vip))
	}
	w := wish{began: time.Now(), vip: vip, from: from}
	key := o.key(vip, releaseName)
	index, err := o.put(ctx, key, from)
	if err != nil {
		return Outcome{}, err
	}
	session := s.locks[vip].session
	s, err = o.await(ctx, vip, func(s *snapshot) bool {
		return s.locks[vip].session != session && s.settled(vip, from)
	})
	if s == nil || s.requests[vip].index == index {
		// Left behind, it would speak to whoever is called so next.
		if back := o.takeBack(ctx, key, index); back != nil {
			err = fmt.Errorf("%w; the request to release it is still there: %w", cmp.Or(err, ErrPending), back)
		}
	}
	if err != nil {
		return Outcome{VIP: vip, From: from}, err
	}
	return w.granted(s), nil
}

// takeBack removes a request, even if ctx has ended. It is no error if somebody
// has taken it up by now.
func (o *Operator) takeBack(ctx context.Context, key string, index uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := o.remove(ctx, key, index); !errors.Is(err, errConflict) {
		return err
	}
	return nil
}

// Withhold pins the address vip to nobody, and waits until no instance has it.
// Then it is free, or another program's that has waited for its lock. It stays
// so until the pin is changed or deleted. The error is ErrPending if ctx ended
// before an instance had let go; the pin stays.
func (o *Operator) Withhold(ctx context.Context, vip string) (Outcome, error) {
	s, err := o.readKnown(ctx, vip)
	if err != nil {
		return Outcome{}, err
	}
	_, from := s.owner(vip)
	w := wish{began: time.Now(), vip: vip, from: from}
	if _, err := o.put(ctx, o.key(vip, pinName), nobody); err != nil {
		return Outcome{}, err
	}
	s, err = o.await(ctx, vip, func(s *snapshot) bool {
		state, _ := s.owner(vip)
		return state != StatusHeld
	})
	if err != nil {
		return Outcome{VIP: vip, From: from}, err
	}
	return w.granted(s), nil
}
