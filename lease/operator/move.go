package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/consul-vip/consul-vip/lease/state"
)

// Move pins the address vip to a node and waits until that node serves it. Without
// a node (to is empty) it chooses the best placed of those that do not hold it, in
// the instances' own order.
//
// Nothing is written where the address is not known, or where the node does not
// contend for it, is drained, holds it already or is not fit although another is. The
// error is ErrPending if ctx ended before the node served the address; the pin stays.
func (o *Operator) Move(ctx context.Context, vip, to string) (Outcome, error) {
	s, err := o.readKnown(ctx, vip)
	if err != nil {
		return Outcome{}, err
	}
	if to, err = destination(s, vip, to); err != nil {
		return Outcome{}, err
	}
	c := begin(s, vip)
	if _, err := o.put(ctx, o.keys.Pin(vip), to); err != nil {
		return Outcome{}, err
	}
	s, err = o.await(ctx, vip, func(s *state.State) bool { return s.ServedBy(vip) == to })
	if err != nil {
		out := c.pending()
		out.Node = to
		return out, err
	}
	return c.outcome(s), nil
}

// destination is the node to move an address to.
func destination(s *state.State, vip, to string) (string, error) {
	_, owner := s.Owner(vip)
	best, found := s.BestPlaced(vip, owner)
	switch {
	case to == "" && found && s.Members[best.Node].IsUnfit(vip) && anyFit(s, vip):
		return "", fmt.Errorf("no fit node to move %s to; %s", vip, s.ContendersText(vip))
	case to == "" && found:
		return best.Node, nil
	case to == "":
		return "", fmt.Errorf("no node to move %s to; %s", vip, s.ContendersText(vip))
	case to == owner:
		return "", fmt.Errorf("%s already holds %s; %s", to, vip, s.ContendersText(vip))
	case s.WhyIneligible(vip, to) != "":
		return "", fmt.Errorf("%s does not contend for %s: %s; %s", to, vip, s.WhyIneligible(vip, to), s.ContendersText(vip))
	case !slices.Contains(s.Contenders(vip), to):
		return "", fmt.Errorf("%s does not contend for %s; %s", to, vip, s.ContendersText(vip))
	case s.Drained(to):
		return "", fmt.Errorf("%s is drained and cannot take %s; %s", to, vip, s.ContendersText(vip))
	case s.WhyUnfit(vip, to) != "" && anyFit(s, vip):
		return "", fmt.Errorf("%s is not fit for %s: %s; %s", to, vip, s.WhyUnfit(vip, to), s.ContendersText(vip))
	}
	return to, nil
}

// anyFit reports whether a member is fit for an address. If none is, one that is not may
// serve it.
func anyFit(s *state.State, vip string) bool {
	return slices.ContainsFunc(s.Contenders(vip), func(node string) bool { return !s.Members[node].IsUnfit(vip) })
}

// Unpin deletes the pin of the address vip and returns its value, empty if there
// was none. The owner keeps the address. Without an owner it waits until a node
// takes the address, if there is one that can. The error is ErrPending if the pin
// is gone, but ctx ended before that.
func (o *Operator) Unpin(ctx context.Context, vip string) (string, Outcome, error) {
	s, err := o.read(ctx)
	if err != nil {
		return "", Outcome{}, err
	}
	c := begin(s, vip)
	pin, ok := s.Pins[vip]
	if !ok {
		c.from = ""
		return "", c.outcome(s), cmp.Or(s.CheckName(vip), absent(s))
	}
	if err := o.remove(ctx, o.keys.Pin(vip), pin.Index); err != nil {
		return "", Outcome{}, err
	}
	s, err = o.await(ctx, vip, func(s *state.State) bool { return settled(s, vip, "") })
	if err != nil {
		return pin.Node, c.pending(), err
	}
	return pin.Node, c.outcome(s), nil
}

// settled reports whether an address stays as it is until something else happens:
// it is served, or no candidate other than the node without is there to take it.
func settled(s *state.State, vip, without string) bool {
	switch status, _ := s.Owner(vip); status {
	case state.StatusUnknown:
		return false
	case state.StatusForeign:
		return true
	case state.StatusHeld:
		return s.ServedBy(vip) != ""
	}
	_, ok := s.Successor(vip, without)
	return !ok && !s.Filtered
}
