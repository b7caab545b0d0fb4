package lease

import (
	"context"
	"iter"
	"reflect"
	"strings"
	"time"
)

// The states of a lock as seen from outside.
const (
	StatusHeld    = "held"    // an instance holds it
	StatusForeign = "foreign" // another program does, such as `consul lock`
	StatusFree    = "free"    // nobody does
)

// Status is a lock as it is seen from Consul alone.
type Status struct {
	VIP   string `json:"vip"`
	State string `json:"state"`
	Node  string `json:"node,omitempty"`
	Owner
	Since   *time.Time `json:"since,omitempty"`
	Session string     `json:"session,omitempty"`
	// Members are those that hold it or contend for it, by name.
	Members []MemberStatus `json:"members"`
	// Pin is the only node that may have it, or "-" for none.
	Pin string `json:"pin,omitempty"`
	// Note says in words what the fields do not: the name of a foreign session,
	// how a free lock came to be free, and why nobody takes it.
	Note string `json:"note,omitempty"`
}

// MemberStatus is a live instance as a contender for one lock.
type MemberStatus struct {
	Node     string `json:"node"`
	Priority int    `json:"priority"` // lower goes first
	Drained  bool   `json:"drained"`
	Session  string `json:"session"`
}

// List reads the state of every lock, ordered by address: those that there are,
// and those that somebody contends for.
func (o *Operator) List(ctx context.Context) ([]Status, error) {
	s, err := o.read(ctx)
	if err != nil {
		return nil, err
	}
	return o.statuses(ctx, s), nil
}

// Follow yields what List returns, now and whenever it changes, until ctx ends.
// While Consul does not answer it yields an error for each try; afterwards it
// yields the state even if that is the same.
func (o *Operator) Follow(ctx context.Context) iter.Seq2[[]Status, error] {
	return func(yield func([]Status, error) bool) {
		var last []Status
		for s, err := range o.snapshots(ctx) {
			var now []Status
			if err == nil {
				if now = o.statuses(ctx, s); last != nil && reflect.DeepEqual(now, last) {
					continue
				}
			}
			if last = now; !yield(now, err) {
				return
			}
		}
	}
}

func (o *Operator) statuses(ctx context.Context, s *snapshot) []Status {
	statuses := []Status{}
	for _, name := range s.names() {
		status := s.status(name)
		if status.State == StatusForeign {
			o.identify(ctx, &status)
		}
		statuses = append(statuses, status)
	}
	return statuses
}

// identify completes a foreign lock's state by the node and name of its session,
// if they can be read. The answer is whole without them.
func (o *Operator) identify(ctx context.Context, status *Status) {
	entry, err := o.consul.sessionInfo(ctx, status.Session)
	if err != nil || entry == nil {
		return
	}
	status.Node = entry.Node
	status.Note = strings.TrimSuffix(entry.Name+"; "+status.Note, "; ")
}

func (s *snapshot) status(name string) Status {
	l := s.locks[name]
	status := Status{
		VIP: name, Session: l.session, Pin: s.pins[name], Members: []MemberStatus{},
		Note: strings.Join(s.remarks(name), "; "),
	}
	status.State, status.Node = s.owner(name)
	// While it is being handed over, the rest of the record is about the giver.
	if s.servedBy(name) != "" {
		status.Owner, status.Since = l.record.Owner, l.record.Since
	}
	for _, node := range s.contenders(name) {
		m := s.members[node]
		status.Members = append(status.Members, MemberStatus{
			Node: node, Priority: m.VIPs[name], Drained: s.drained[node], Session: m.Session,
		})
	}
	return status
}
