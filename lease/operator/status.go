package operator

import (
	"context"
	"iter"
	"reflect"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Status is a lock as Consul alone shows it.
type Status struct {
	VIP   string
	State string // state.StatusHeld, StatusForeign, StatusFree or StatusUnknown
	Node  string // that holds it, or Consul's node of a foreign session
	// Owner is what the owner tells readers about itself. Its fields become fields
	// of the JSON.
	Owner   state.Owner
	Since   *time.Time
	Session string
	// Members are those that hold it or contend for it, by name.
	Members []MemberStatus
	// Pin is the only node that may hold it, or state.Nobody.
	Pin string
	// Note tells people what the fields do not: the name of a foreign session, how a
	// lock became free, and why no member takes it.
	Note string
}

// MemberStatus is a member as a contender for one lock.
type MemberStatus struct {
	Node     string `json:"node"`
	Priority int    `json:"priority"` // lower goes first
	Drained  bool   `json:"drained"`
	Session  string `json:"session"`
	// RanksLast: for some time it comes after all others, whatever its priority, because
	// locks were taken from it: its host did not answer on the wire.
	RanksLast bool `json:"ranks_last,omitempty"`
	// Unfit is why the service behind the address is not fit there: it comes after all that
	// are fit. Empty: it is.
	Unfit string `json:"unfit,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (s Status) MarshalJSON() ([]byte, error) {
	type head struct {
		VIP   string `json:"vip"`
		State string `json:"state"`
		Node  string `json:"node,omitempty"`
	}
	type tail struct {
		Since   *time.Time     `json:"since,omitempty"`
		Session string         `json:"session,omitempty"`
		Members []MemberStatus `json:"members"`
		Pin     string         `json:"pin,omitempty"`
		Note    string         `json:"note,omitempty"`
	}
	return s.Owner.Inline(head{s.VIP, s.State, s.Node}, tail{s.Since, s.Session, s.Members, s.Pin, s.Note})
}

// List reads the state of every lock that exists or has a contender, ordered by
// address.
func (o *Operator) List(ctx context.Context) ([]Status, error) {
	s, err := o.read(ctx)
	if err != nil {
		return nil, err
	}
	return o.statuses(ctx, s), nil
}

// Follow yields what List returns, now and whenever it changes, until ctx ends.
// While Consul does not answer it yields an error for each try; afterwards it
// yields the state even if it is the same.
func (o *Operator) Follow(ctx context.Context) iter.Seq2[[]Status, error] {
	return func(yield func([]Status, error) bool) {
		var last []Status
		for s, err := range o.states(ctx) {
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

func (o *Operator) statuses(ctx context.Context, s *state.State) []Status {
	statuses := []Status{}
	for _, name := range s.Names() {
		st := status(s, name)
		if st.State == state.StatusForeign {
			o.nameHolder(ctx, &st)
		}
		statuses = append(statuses, st)
	}
	return statuses
}

// nameHolder adds the node and the name of a foreign lock's session, if they can
// be read.
func (o *Operator) nameHolder(ctx context.Context, st *Status) {
	session, err := o.consul.Session(ctx, st.Session)
	if err != nil || session == (consul.Session{}) {
		return
	}
	st.Node = session.Node
	st.Note = strings.TrimSuffix(session.Name+"; "+st.Note, "; ")
}

func status(s *state.State, name string) Status {
	l := s.Locks[name]
	st := Status{
		VIP: name, Session: l.Session, Pin: s.Pin(name), Members: []MemberStatus{},
		Note: strings.Join(s.Remarks(name), "; "),
	}
	st.State, st.Node = s.Owner(name)
	// During a transfer the rest of the record is about the previous owner.
	if s.ServedBy(name) != "" {
		st.Owner, st.Since = l.Record.Owner, l.Record.Since
	}
	for _, node := range s.Contenders(name) {
		m := s.Members[node]
		priority, last := m.Priority(name)
		st.Members = append(st.Members, MemberStatus{
			Node: node, Priority: priority, Drained: s.Drained(node), Session: m.Session, RanksLast: last,
			Unfit: s.WhyUnfit(name, node),
		})
	}
	return st
}
