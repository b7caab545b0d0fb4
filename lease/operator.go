package lease

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// ErrPending means that the key is written, but that what it asks for was not
// seen to happen before the context ended.
var ErrPending = errors.New("not done yet")

// Operator sees what the instances below a prefix keep in Consul, and writes the
// keys by which they are told what to do. It has no session, and takes part in
// nothing. Its methods are safe for concurrent use.
//
// Seeing needs read access to the keys, and to sessions for the name of a
// foreign one; writing needs write access to the keys.
type Operator struct {
	consul *consul
	prefix string
}

// NewOperator returns an Operator for the instances that have this prefix.
func NewOperator(client *api.Client, prefix string) *Operator {
	return &Operator{consul: newConsul(client), prefix: strings.Trim(prefix, "/")}
}

// Outcome is who has an address after an operator's wish.
type Outcome struct {
	VIP   string
	From  string // the node that had it before; empty: nobody
	State string // StatusHeld, StatusForeign or StatusFree
	Node  string // who has it now, with StatusHeld
	// Took is the time from the writing of the key until Consul showed this.
	Took time.Duration
}

// wish is a key that is being written, and since when.
type wish struct {
	began time.Time
	vip   string
	from  string
}

// granted is what came of w, as s shows it.
func (w wish) granted(s *snapshot) Outcome {
	state, node := s.owner(w.vip)
	return Outcome{VIP: w.vip, From: w.from, State: state, Node: node, Took: time.Since(w.began)}
}

// key is where a file of an address, or of a folder, lies.
func (o *Operator) key(dir, base string) string {
	return fmt.Sprintf("%s/%s/%s", o.prefix, dir, base)
}

// put writes a key and returns the index it was written at.
func (o *Operator) put(ctx context.Context, key, value string) (uint64, error) {
	index, err := o.consul.commit(ctx, &api.KVTxnOp{Verb: api.KVSet, Key: key, Value: []byte(value)})
	return index, o.explain(ctx, err, right{"key", "write", key})
}

// remove deletes a key as it was at index. The error is errConflict if it has
// changed since, or is gone.
func (o *Operator) remove(ctx context.Context, key string, index uint64) error {
	err := o.consul.deleteUnchanged(ctx, key, index)
	return o.explain(ctx, err, right{"key", "write", key})
}

// seen makes a snapshot of what was listed, or says why nothing was.
func (o *Operator) seen(ctx context.Context, l listing, err error) (*snapshot, error) {
	need := right{"key", "read", o.prefix + "/"}
	switch {
	case err != nil:
		return nil, o.explain(ctx, err, need)
	case len(l.pairs) == 0: // which is also what those see who ask without a token
		if err := o.lack(ctx, need); err != nil {
			return nil, err
		}
	}
	return newSnapshot(o.prefix, l.pairs, l.index), nil
}

// explain is err, or in its place which right the token lacks, if that is why
// Consul has refused something.
func (o *Operator) explain(ctx context.Context, err error, need right) error {
	if !errors.Is(err, errConflict) && !errors.Is(err, errFiltered) && httpStatus(err) != http.StatusForbidden {
		return err
	}
	if lack := o.lack(ctx, need); lack != nil {
		return lack
	}
	return err
}

// lack is an error if the token is known to lack a right.
func (o *Operator) lack(ctx context.Context, need right) error {
	missing, err := o.consul.lacking(ctx, []right{need})
	switch {
	case errors.Is(err, errUnknownToken):
		return err
	case len(missing) > 0:
		return errors.New(strings.Join(missingRules(missing), "; "))
	}
	return nil
}

// read returns what the keys say now.
func (o *Operator) read(ctx context.Context) (*snapshot, error) {
	pairs, index, err := o.consul.list(ctx, o.prefix+"/", 0)
	return o.seen(ctx, listing{pairs, index}, err)
}

// readKnown is read for an address that must be known there.
func (o *Operator) readKnown(ctx context.Context, vip string) (*snapshot, error) {
	s, err := o.read(ctx)
	if err != nil {
		return nil, err
	}
	return s, s.known(vip)
}

// snapshots yields what the keys say, now and whenever that changes, and an
// error for each failed try to find out, until ctx ends.
func (o *Operator) snapshots(ctx context.Context) iter.Seq2[*snapshot, error] {
	return func(yield func(*snapshot, error) bool) {
		for l, err := range o.consul.follow(ctx, o.prefix+"/") {
			if !yield(o.seen(ctx, l, err)) {
				return
			}
		}
	}
}

// await returns the first snapshot that done accepts, or the last one if ctx
// ends before, with an error that is ErrPending and says how things stand with
// vip.
func (o *Operator) await(ctx context.Context, vip string, done func(*snapshot) bool) (*snapshot, error) {
	var (
		last   *snapshot
		silent error
	)
	for s, err := range o.snapshots(ctx) {
		if silent = err; err != nil {
			continue
		}
		if last = s; done(s) {
			return s, nil
		}
	}
	why := context.Cause(ctx)
	switch {
	case silent != nil:
		return last, fmt.Errorf("%s: %w: %w; Consul does not answer: %w", vip, ErrPending, why, silent)
	case last == nil:
		return nil, fmt.Errorf("%s: %w: %w", vip, ErrPending, why)
	}
	return last, fmt.Errorf("%s: %w: %s; %w", vip, ErrPending, last.situation(vip), why)
}

// LocalNode is the node name of the Consul agent that is asked, by which an
// instance beside it goes unless its configuration says otherwise. It needs read
// access to the agent.
func (o *Operator) LocalNode(ctx context.Context) (string, error) {
	self, err := o.consul.self(ctx)
	return self.Config.NodeName, o.explain(ctx, err, right{"agent", "read", self.Config.NodeName})
}
