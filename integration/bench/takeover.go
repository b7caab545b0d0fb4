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

// takenOver returns an error unless the takeover is complete, as the client sees it.
func (e *entry) takenOver() error {
	switch by := e.client.AnsweredBy(); {
	case by == "":
		return errors.New("no host answers the client")
	case e.scenario.mayStay && time.Since(e.at) < e.scenario.watch:
		return errors.New("the owner may still react")
	case !e.scenario.mayStay && by == e.owner.Name:
		return errors.New("the old owner still answers")
	}
	return nil
}

// awaitUnbound waits until the old owner has unbound the address too, which says how
// long the address had two owners, or until the deadline.
func (e *entry) awaitUnbound(ctx context.Context, deadline time.Time) error {
	limited, cancel := context.WithDeadlineCause(ctx, deadline, errBound)
	defer cancel()
	err := lab.Await(limited, func() error {
		left, err := e.owner.Owns(ctx, e.addr)
		if err == nil && left {
			err = errors.New("the old owner still has the address")
		}
		return err
	})
	if ctx.Err() == nil {
		return nil // both outcomes are results, and collect finds out which it was
	}
	return err
}

// collect returns what the client and the observer saw.
func (e *entry) collect(ctx context.Context) (r result, err error) {
	unanswered := e.client.AnsweredBy() == ""
	seen := e.client.Stop()
	e.client = nil
	gap := longestAfter(seen.Gaps, e.at)
	r = result{
		owner:  e.owner.Name,
		led:    e.led,
		gap:    gap.Length(),
		lost:   gap.Lost,
		open:   unanswered && gap.Lost > 0 && gap == seen.Gaps[len(seen.Gaps)-1],
		double: time.Duration(doublesAfter(e.wire.Doubles(), e.at)) * lab.ObserveInterval,
	}
	for _, reign := range seen.Owned {
		if r.next == "" && reign.Host != e.owner.Name && reign.Last.After(e.at) {
			r.next, r.takenOver = reign.Host, reign.First.Sub(e.at)
		}
	}
	if !e.scenario.hostGone && (r.next != "" || !e.scenario.mayStay) {
		if r.left, err = e.owner.Owns(ctx, e.addr); err != nil {
			return r, err
		}
	}
	if _, is := e.peer.(consulVIP); is {
		r.reaction, _ = e.old.Reaction()
		r.handover = handoverOf(e.at, e.old, e.daemonOf(r.next))
	}
	return r, nil
}
