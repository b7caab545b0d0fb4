package lease

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Move pins the address vip to a node and waits until that node has it. Without
// a node (to is empty) it is the best placed of those that do not have it, by
// the instances' own reckoning.
//
// Nothing is written where the address is not known, or the node does not
// contend for it, is drained or has it already. The error is ErrPending if ctx
// ended before the node had the address; the pin stays.
func (o *Operator) Move(ctx context.Context, vip, to string) (Outcome, error) {
	s, err := o.readKnown(ctx, vip)
	if err != nil {
		return Outcome{}, err
	}
	if to, err = s.destination(vip, to); err != nil {
		return Outcome{}, err
	}
	_, from := s.owner(vip)
	w := wish{began: time.Now(), vip: vip, from: from}
	if _, err := o.put(ctx, o.key(vip, pinName), to); err != nil {
		return Outcome{}, err
	}
	s, err = o.await(ctx, vip, func(s *snapshot) bool { return s.servedBy(vip) == to })
	if err != nil {
		return Outcome{VIP: vip, From: from, Node: to}, err
	}
	return w.granted(s), nil
}

// destination is the node to move an address to.
func (s *snapshot) destination(vip, to string) (string, error) {
	_, owner := s.owner(vip)
	switch {
	case to == "":
		if to = s.heir(vip, owner); to == "" {
			return "", fmt.Errorf("nobody is there to move %s to; %s", vip, s.whoIsThere(vip))
		}
		return to, nil
	case to == owner:
		return "", fmt.Errorf("%s has %s already; %s", to, vip, s.whoIsThere(vip))
	case !slices.Contains(s.contenders(vip), to):
		return "", fmt.Errorf("%s does not contend for %s; %s", to, vip, s.whoIsThere(vip))
	case s.drained[to]:
		return "", fmt.Errorf("%s is drained; for %s %s", to, vip, s.whoIsThere(vip))
	}
	return to, nil
}

// heir is the best placed of the contenders for an address but the one without,
// whatever it is pinned to, or empty.
func (s *snapshot) heir(vip, without string) string {
	if heirs := s.ranks.heirs(without)[vip]; len(heirs) > 0 {
		return heirs[0].node
	}
	return ""
}

// taker is who may take an address that is or becomes free, but for the one
// without, or empty.
func (s *snapshot) taker(vip, without string) string {
	c, _ := s.successor(vip, without)
	return c.node
}

// Unpin deletes the pin of the address vip and returns what it said, empty if
// there was none. Who has the address keeps it; where nobody has, it waits until
// somebody takes it, if anybody is there who can. The error is ErrPending if the
// pin is gone, but ctx ended before that.
func (o *Operator) Unpin(ctx context.Context, vip string) (string, Outcome, error) {
	s, err := o.read(ctx)
	if err != nil {
		return "", Outcome{}, err
	}
	pin := s.keys[vip+"/"+pinName]
	if pin == nil {
		err := s.known(vip)
		return "", wish{began: time.Now(), vip: vip}.granted(s), err
	}
	_, from := s.owner(vip)
	w := wish{began: time.Now(), vip: vip, from: from}
	if err := o.remove(ctx, pin.Key, pin.ModifyIndex); err != nil {
		return "", Outcome{}, err
	}
	s, err = o.await(ctx, vip, func(s *snapshot) bool { return s.settled(vip, "") })
	if err != nil {
		return string(pin.Value), Outcome{VIP: vip, From: from}, err
	}
	return string(pin.Value), w.granted(s), nil
}

// settled reports whether nothing more is to be expected of an address that
// somebody may have given up: somebody has it, or nobody is there to take it
// but the one without.
func (s *snapshot) settled(vip, without string) bool {
	switch state, _ := s.owner(vip); state {
	case StatusForeign:
		return true
	case StatusHeld:
		return s.servedBy(vip) != ""
	}
	return s.taker(vip, without) == ""
}
