package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/lease/state"
)

// Drained is the result of draining a node.
type Drained struct {
	// Member says that the node is a member.
	Member bool
	// Moved are the addresses that it held and holds no more, in the order in which
	// others took them.
	Moved []Outcome
	// Kept are the addresses that it still holds, because no other member can take
	// them.
	Kept []Kept
	// Others are the other members.
	Others []string
	// Filtered says that the ACL token may not read all keys: there may be more members.
	Filtered bool
}

// Kept is an address that a drained node still holds, and why.
type Kept struct{ VIP, Why string }

// Drain tells the instance called node to transfer every address and to contend
// for none, until Undrain. It waits until the node holds only addresses that no
// other member can take. A node that is not a member can be drained as well. The
// error is ErrPending if ctx ended before that; the node stays drained.
func (o *Operator) Drain(ctx context.Context, node string) (Drained, error) {
	s, err := o.read(ctx)
	if err != nil {
		return Drained{}, err
	}
	d := drain{node: node, began: time.Now(), held: map[string]bool{}}
	d.done(s)
	value, err := json.Marshal(map[string]time.Time{"at": d.began.UTC().Truncate(time.Second)})
	if err != nil {
		return Drained{}, err
	}
	if _, err := o.put(ctx, o.keys.Drain(node), string(value)); err != nil {
		return Drained{}, err
	}
	for s, err = range o.states(ctx) {
		if err == nil && d.done(s) {
			return d.result(s), nil
		}
	}
	return d.unfinished(s, err, context.Cause(ctx))
}

// drain is the move of one node's addresses to other nodes.
type drain struct {
	node  string
	began time.Time
	held  map[string]bool // by address: whether it still has to move
	moved []Outcome
}

// done notes which addresses have moved in s, and reports whether no more can.
func (d *drain) done(s *state.State) bool {
	done := s.Drained(d.node)
	for _, vip := range s.Names() {
		if _, owner := s.Owner(vip); owner == d.node {
			d.held[vip] = true
			_, successor := s.Successor(vip, d.node)
			done = done && s.Pin(vip) != state.Nobody && !successor && !s.Filtered
			continue
		}
		switch {
		case !d.held[vip]:
		case settled(s, vip, d.node):
			d.held[vip] = false
			d.moved = append(d.moved, command{d.began, vip, d.node}.outcome(s))
		default:
			done = false
		}
	}
	return done
}

func (d *drain) result(s *state.State) Drained {
	_, member := s.Members[d.node]
	result := Drained{Member: member, Moved: d.moved, Filtered: s.Filtered}
	for other := range s.Members {
		if other != d.node {
			result.Others = append(result.Others, other)
		}
	}
	slices.Sort(result.Others)
	for _, vip := range s.Names() {
		if _, owner := s.Owner(vip); owner == d.node {
			result.Kept = append(result.Kept, Kept{vip, whyKept(s, vip, d.node)})
		}
	}
	return result
}

// unfinished is the result and the error when the time is up. Failed is the error
// of the last try to read s, which is nil if none has worked.
func (d *drain) unfinished(s *state.State, failed, cause error) (Drained, error) {
	if s == nil {
		return Drained{Moved: d.moved}, fmt.Errorf("%s: %w: %w; Consul does not answer: %w", d.node, ErrPending, cause, failed)
	}
	var left []string
	for _, vip := range s.Names() {
		if d.held[vip] {
			left = append(left, vip+": "+s.Situation(vip))
		}
	}
	return d.result(s), fmt.Errorf("%s: %w: %s; %w", d.node, ErrPending, strings.Join(left, ", "), cause)
}

// whyKept is why no other node can take an address.
func whyKept(s *state.State, vip, node string) string {
	switch others := s.Contenders(vip); {
	case s.Pin(vip) != "":
		return s.PinText(vip)
	case s.Filtered:
		return state.ErrIncomplete.Error()
	case !slices.ContainsFunc(others, func(other string) bool { return other != node }):
		return "no other member contends for it"
	}
	return "all other members are drained"
}

// Undrain ends what Drain began, and reports whether the node was drained.
func (o *Operator) Undrain(ctx context.Context, node string) (bool, error) {
	s, err := o.read(ctx)
	if err != nil {
		return false, err
	}
	mark, drained := s.Drains[node]
	if !drained {
		return false, absent(s)
	}
	return true, o.remove(ctx, o.keys.Drain(node), mark.Index)
}
