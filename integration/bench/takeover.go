package main

import (
	"context"
	"errors"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// after is how long the client goes on after a takeover.
const after = time.Second

// errBound says that the time for a takeover is over, which is a result.
var errBound = errors.New("not taken over in time")

// await returns when another host has taken over and the client has seen enough of
// it, or when the time for a takeover is over.
func (e *entry) await(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, e.scenario.boundOf(e.peer), errBound)
	defer cancel()
	err := lab.Await(limited, e.takenOver)
	switch {
	case errors.Is(err, errBound):
		return nil
	case err != nil:
		return err
	}
	taken := time.Now()
	if err := lab.Sleep(ctx, max(after, e.scenario.watch-time.Since(e.at))); err != nil {
		return err
	}
	if e.scenario.watch < longWatch {
		return nil
	}
	return e.awaitUnbound(ctx, taken.Add(longWatch))
}

// takenOver returns an error unless the takeover of every address is complete, as the
// clients see it.
func (e *entry) takenOver() error {
	for _, c := range e.clients.All {
		switch by := c.AnsweredBy(); {
		case by == "":
			return errors.New("no host answers the client")
		case e.scenario.mayStay && time.Since(e.at) < e.scenario.watch:
			return errors.New("the owner may still react")
		case !e.scenario.mayStay && by == e.owner.Name:
			return errors.New("the old owner still answers")
		}
	}
	return nil
}

// awaitUnbound waits until the old owner has unbound the addresses too, which says how
// long they had two owners, or until the deadline.
func (e *entry) awaitUnbound(ctx context.Context, deadline time.Time) error {
	limited, cancel := context.WithDeadlineCause(ctx, deadline, errBound)
	defer cancel()
	err := lab.Await(limited, func() error {
		left, err := e.boundOn(ctx, e.owner)
		if err == nil && len(left) > 0 {
			err = errors.New("the old owner still has the address")
		}
		return err
	})
	if ctx.Err() == nil {
		return nil // both outcomes are results, and collect finds out which it was
	}
	return err
}

// collect returns what the clients and the observer saw.
func (e *entry) collect(ctx context.Context) (r result, err error) {
	r.owner = e.owner.Name
	if e.web != nil {
		if r.web, err = e.web.stop(ctx); err != nil {
			return r, err
		}
	}
	unanswered := make([]bool, len(e.clients.All))
	for i, c := range e.clients.All {
		unanswered[i] = c.AnsweredBy() == ""
	}
	e.clients.Stop()
	for i, c := range e.clients.All {
		r.add(c.Report(), unanswered[i], e.owner, e.at)
	}
	e.clients = nil
	r.double = time.Duration(doublesAfter(e.wire.Doubles(), e.at)) * e.scenario.observeInterval()
	if !e.scenario.hostGone && (r.next != "" || !e.scenario.mayStay) {
		left, err := e.boundOn(ctx, e.owner)
		if err != nil {
			return r, err
		}
		r.left = len(left) > 0
	}
	if _, is := e.peer.(consulVIP); is {
		next := e.daemonOf(r.next)
		r.reaction, _ = e.old.Reaction()
		r.handover = handoverOf(e.at, e.old, next)
		r.phases = phasesOf(e.at, next, e.addr.String())
	}
	return r, nil
}

// add adds what the client of one address saw. Of several addresses, the longest gap and
// the latest takeover count.
func (r *result) add(seen lab.Report, unanswered bool, owner *lab.Host, failure time.Time) {
	gap := longestAfter(seen.Gaps, failure)
	first := len(r.gaps) == 0
	r.gaps = append(r.gaps, gap.Length())
	r.open = r.open || unanswered && gap.Lost > 0 && gap == seen.Gaps[len(seen.Gaps)-1]
	if first || gap.Length() > r.gap {
		r.gap, r.lost = gap.Length(), gap.Lost
	}
	next, taken := "", time.Duration(0)
	for _, reign := range seen.Owned {
		if next == "" && reign.Host != owner.Name && reign.Last.After(failure) {
			next, taken = reign.Host, reign.First.Sub(failure)
		}
	}
	if first || next == "" || r.next != "" && taken > r.takenOver {
		r.next, r.takenOver = next, taken
	}
}
