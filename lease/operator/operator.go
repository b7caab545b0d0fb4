// Package operator is what an operator's commands do: it shows what the instances
// below a prefix keep in Consul, and writes the keys by which an operator tells
// them what to do. It has no session and takes part in nothing; its [state.State]
// is the instances' own, so that it comes to the same conclusions.
//
// A command reads before it writes and refuses what cannot come true. Then it
// writes or deletes one key and follows the keys until it sees the result. No
// goroutine outlives a call.
package operator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// ErrPending means that the key is written, but that the result was not seen
// before the context ended.
var ErrPending = errors.New("not done yet")

// writeTimeout bounds a write after the command's own context has ended.
const writeTimeout = 5 * time.Second

// Operator sees and steers the instances below a prefix. Its methods are safe for
// concurrent use.
//
// Seeing needs read access to the keys, and to sessions for the name of a foreign
// one; steering needs write access to the keys.
type Operator struct {
	consul *consul.Client
	keys   state.Keys
}

// New returns an Operator for the instances that have this prefix.
func New(client *consul.Client, prefix string) *Operator {
	return &Operator{consul: client, keys: state.NewKeys(prefix)}
}

// Outcome is the owner of an address after a command.
type Outcome struct {
	VIP   string
	From  string // the node that held it before; empty: none
	State string // state.StatusHeld, StatusForeign, StatusFree or StatusUnknown
	Node  string // the node that holds it now, with state.StatusHeld
	// Took is the time from the writing of the key until Consul showed this.
	Took time.Duration
}

// command is one command about one address under way.
type command struct {
	began time.Time
	vip   string
	from  string // the node that held the address before
}

func begin(s *state.State, vip string) command {
	_, from := s.Owner(vip)
	return command{began: time.Now(), vip: vip, from: from}
}

// outcome is the result that s shows.
func (c command) outcome(s *state.State) Outcome {
	status, node := s.Owner(c.vip)
	return Outcome{VIP: c.vip, From: c.from, State: status, Node: node, Took: time.Since(c.began)}
}

// pending is the outcome of a command whose result was not seen.
func (c command) pending() Outcome { return Outcome{VIP: c.vip, From: c.from} }

// put writes a key and returns the index it was written at.
func (o *Operator) put(ctx context.Context, key, value string) (uint64, error) {
	index, err := o.consul.Commit(ctx, consul.Set(key, []byte(value)))
	return index, o.explain(ctx, err, consul.Permission{Resource: "key", Access: "write", Segment: key})
}

// remove deletes a key as it was at index. The error is consul.ErrConflict if it
// has changed since or is gone.
func (o *Operator) remove(ctx context.Context, key string, index uint64) error {
	err := o.consul.DeleteUnchanged(ctx, key, index)
	return o.explain(ctx, err, consul.Permission{Resource: "key", Access: "write", Segment: key})
}

// explain replaces err by the permission that the token lacks, if that is why
// Consul has refused a request.
func (o *Operator) explain(ctx context.Context, err error, needed consul.Permission) error {
	if !consul.MayLackPermission(err) {
		return err
	}
	if lacking := o.lacking(ctx, needed); lacking != nil {
		return lacking
	}
	return err
}

// lacking is an error if the token is known to lack a permission.
func (o *Operator) lacking(ctx context.Context, needed consul.Permission) error {
	lacking, err := o.consul.Lacking(ctx, []consul.Permission{needed})
	switch {
	case errors.Is(err, consul.ErrUnknownToken):
		return err
	case len(lacking) > 0:
		return errors.New(strings.Join(consul.Rules(lacking), "; "))
	}
	return nil
}

// seen checks what was read: an empty list is also Consul's answer to a request
// without a token.
func (o *Operator) seen(ctx context.Context, s *state.State, err error) (*state.State, error) {
	needed := consul.Permission{Resource: "key", Access: "read", Segment: o.keys.Folder()}
	if err == nil && s.Count == 0 {
		err = o.lacking(ctx, needed)
	}
	if err != nil {
		return nil, o.explain(ctx, err, needed)
	}
	return s, nil
}

// State reads the keys as they are now. It is incomplete if the token may not read them
// all, see state.State.Filtered.
func (o *Operator) State(ctx context.Context) (*state.State, error) { return o.read(ctx) }

// read returns the keys as they are now.
func (o *Operator) read(ctx context.Context) (*state.State, error) {
	s, err := o.consul.List(ctx, o.keys)
	return o.seen(ctx, s, err)
}

// readKnown is read for an address that must be known.
func (o *Operator) readKnown(ctx context.Context, vip string) (*state.State, error) {
	s, err := o.read(ctx)
	if err != nil {
		return nil, err
	}
	return s, s.CheckName(vip)
}

// absent is the error of something that is not in s; nil where it does not exist.
func absent(s *state.State) error {
	if s.Filtered {
		return state.ErrIncomplete
	}
	return nil
}

// states yields the keys, now and whenever they change, and an error for each
// failed try, until ctx ends.
func (o *Operator) states(ctx context.Context) iter.Seq2[*state.State, error] {
	start := time.Now()
	now := func() time.Duration { return time.Since(start) }
	return func(yield func(*state.State, error) bool) {
		var last *state.State // nil after an error
		for a, err := range o.consul.Follow(ctx, o.keys, now, nil) {
			if err == nil && a.State == last {
				continue
			}
			last = a.State
			if !yield(o.seen(ctx, a.State, err)) {
				return
			}
		}
	}
}

// await returns the first State that done accepts. If ctx ends before, it returns
// the last one that it saw, with an error that is ErrPending and tells the
// situation of vip.
func (o *Operator) await(ctx context.Context, vip string, done func(*state.State) bool) (*state.State, error) {
	var (
		last   *state.State
		failed error // the last try
	)
	for s, err := range o.states(ctx) {
		if failed = err; err != nil {
			continue
		}
		if last = s; done(s) {
			return s, nil
		}
	}
	cause := context.Cause(ctx)
	switch {
	case failed != nil:
		return last, fmt.Errorf("%s: %w: %w; Consul does not answer: %w", vip, ErrPending, cause, failed)
	case last == nil:
		return nil, fmt.Errorf("%s: %w: %w", vip, ErrPending, cause)
	}
	return last, fmt.Errorf("%s: %w: %s; %w", vip, ErrPending, last.Situation(vip), cause)
}

// LocalNode is the node name of the local Consul agent. An instance beside it has
// the same name unless its configuration sets another. It needs read access to the
// agent.
func (o *Operator) LocalNode(ctx context.Context) (string, error) {
	agent, err := o.consul.Agent(ctx)
	return agent.NodeName, o.explain(ctx, err, consul.Permission{Resource: "agent", Access: "read", Segment: agent.NodeName})
}
