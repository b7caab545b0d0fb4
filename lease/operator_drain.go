package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Drained is what has come of draining a node.
type Drained struct {
	// Member says that an instance of this name was there.
	Member bool
	// Moved are the addresses that it had and has no more, in the order in which
	// somebody else had them.
	Moved []Outcome
	// Kept are the addresses that it still has, since nobody else can take them.
	Kept []Kept
	// Others are the instances that are there besides.
	Others []string
}

// Kept is an address that a drained node still has, and why.
type Kept struct{ VIP, Why string }

// Drain tells the instance called node to give every address away and to
// contend for none, until Undrain. It waits until the node has none but those
// that nobody else can take. A node need not be there to be drained. The error
// is ErrPending if ctx ended before that; the node stays drained.
func (o *Operator) Drain(ctx context.Context, node string) (Drained, error) {
	s, err := o.read(ctx)
	if err != nil {
		return Drained{}, err
	}
	d := drain{node: node, began: time.Now(), had: map[string]bool{}}
	d.look(s)
	value, err := json.Marshal(map[string]time.Time{"at": d.began.UTC().Truncate(time.Second)})
	if err != nil {
		return Drained{}, err
	}
	if _, err := o.put(ctx, o.key(drainName, node), string(value)); err != nil {
		return Drained{}, err
	}
	for s, err = range o.snapshots(ctx) {
		if err == nil && d.look(s) {
			return d.result(s), nil
		}
	}
	return d.unfinished(s, err, context.Cause(ctx))
}

// drain is one node's addresses on their way to others.
type drain struct {
	node  string
	began time.Time
	had   map[string]bool // by address, whether it still has to move
	moved []Outcome
}

// look takes down what has moved in s, and reports whether nothing more can.
func (d *drain) look(s *snapshot) bool {
	done := s.drained[d.node]
	for _, vip := range s.names() {
		if _, owner := s.owner(vip); owner == d.node {
			d.had[vip] = true
			done = done && s.pins[vip] != nobody && s.taker(vip, d.node) == ""
			continue
		}
		switch {
		case !d.had[vip]:
		case s.settled(vip, d.node):
			d.had[vip] = false
			d.moved = append(d.moved, wish{began: d.began, vip: vip, from: d.node}.granted(s))
		default:
			done = false
		}
	}
	return done
}

func (d *drain) result(s *snapshot) Drained {
	_, member := s.members[d.node]
	result := Drained{Member: member, Moved: d.moved}
	for other := range s.members {
		if other != d.node {
			result.Others = append(result.Others, other)
		}
	}
	slices.Sort(result.Others)
	for _, vip := range s.names() {
		if _, owner := s.owner(vip); owner == d.node {
			result.Kept = append(result.Kept, Kept{vip, s.whyKept(vip, d.node)})
		}
	}
	return result
}

// unfinished is the result, and the error, when time is up.
func (d *drain) unfinished(s *snapshot, silent, why error) (Drained, error) {
	if s == nil {
		return Drained{Moved: d.moved}, fmt.Errorf("%s: %w: %w; Consul does not answer: %w", d.node, ErrPending, why, silent)
	}
	var left []string
	for _, vip := range s.names() {
		if d.had[vip] {
			left = append(left, vip+": "+s.situation(vip))
		}
	}
	return d.result(s), fmt.Errorf("%s: %w: %s; %w", d.node, ErrPending, strings.Join(left, ", "), why)
}

// whyKept is why nobody else can take an address.
func (s *snapshot) whyKept(vip, node string) string {
	switch others := s.contenders(vip); {
	case s.pins[vip] != "":
		return s.pinned(vip)
	case !slices.ContainsFunc(others, func(other string) bool { return other != node }):
		return "nobody else is there for it"
	}
	return "the others are drained as well"
}

// Undrain ends what Drain began, and reports whether the node was drained.
func (o *Operator) Undrain(ctx context.Context, node string) (bool, error) {
	s, err := o.read(ctx)
	if err != nil {
		return false, err
	}
	mark := s.keys[drainName+"/"+node]
	if mark == nil {
		return false, nil
	}
	return true, o.remove(ctx, mark.Key, mark.ModifyIndex)
}
