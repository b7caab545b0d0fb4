package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// startTime is how long an entry's daemons may take to be ready.
	startTime = 30 * time.Second
	// after is how long the client goes on after the takeover.
	after = time.Second
	// askEvery is the observer's interval.
	askEvery = 10 * time.Millisecond
)

// entry is one peer's part in a trial: its daemons on all hosts, its address,
// and a client and an observer of that address.
type entry struct {
	*trial
	peer    peer
	number  int // among the trial's entries, from 0
	addr    netip.Addr
	daemons []*daemon // in the order of the trial's hosts
	old     *lab.Process

	client  *lab.Client
	witness *lab.Observer
	result  result
}

// newEntry prepares a peer's part. The first one's address is 10.77.0.100.
func newEntry(t *trial, p peer, number int) *entry {
	return &entry{trial: t, peer: p, number: number, addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + number)})}
}

// id names the entry in a key, a file name and an environment.
func (e *entry) id() string {
	id := fmt.Sprintf("%s-%s-%d-%d", e.peer.name(), e.scenario.name, e.repetition, e.number)
	return strings.ReplaceAll(id, " ", "-")
}

// start has all daemons running, the first host as the owner, and the client and
// the observer looking.
func (e *entry) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("not ready in time"))
	defer cancel()
	for rank := range e.hosts {
		if err := e.startDaemon(rank); err != nil {
			return err
		}
		if rank == 0 && !e.peer.elects() {
			if err := e.awaitReady(ctx, 0); err != nil {
				return err
			}
		}
	}
	for rank := range e.hosts {
		if err := e.awaitReady(ctx, rank); err != nil {
			return err
		}
	}
	if e.witness, err = e.Observer.NewObserver(askEvery, e.addr); err != nil {
		return err
	}
	if e.client, err = e.Client.NewClient(e.addr); err != nil {
		return err
	}
	return lab.Await(ctx, func() error {
		if by := e.client.AnsweredBy(); by != e.owner.Name {
			return fmt.Errorf("the client is answered by %q, not by %s", by, e.owner.Name)
		}
		return nil
	})
}

func (e *entry) startDaemon(rank int) error {
	h := e.hosts[rank]
	c, err := e.peer.command(e, h, rank)
	if err != nil {
		return err
	}
	d, err := startDaemon(h, e.id(), c)
	if err == nil {
		e.daemons = append(e.daemons, d)
	}
	return err
}

func (e *entry) awaitReady(ctx context.Context, rank int) error {
	return lab.Await(ctx, func() error { return e.peer.ready(e, e.daemons[rank].current(), rank) })
}

// errBound says that the time for a takeover is over, which is a result.
var errBound = errors.New("not taken over in time")

// await returns when another host has taken over and enough was seen of it, or
// when the bound is reached.
func (e *entry) await(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, e.scenario.boundOf(e.peer), errBound)
	defer cancel()
	err := lab.Await(limited, func() error {
		switch by := e.client.AnsweredBy(); {
		case by == "":
			return errors.New("the client is not answered")
		case e.scenario.mayStay && time.Since(e.at) < e.scenario.watch:
			return errors.New("it may still react")
		case !e.scenario.mayStay && by == e.owner.Name:
			return errors.New("the old owner answers")
		}
		return nil
	})
	switch {
	case errors.Is(err, errBound):
		return nil
	case err != nil:
		return err
	}
	taken := time.Now()
	if err := pause(ctx, max(after, e.scenario.watch-time.Since(e.at))); err != nil {
		return err
	}
	if e.scenario.watch < lastSign {
		return nil
	}
	return e.awaitEnd(ctx, taken.Add(lastSign))
}

// awaitEnd waits until the old owner has let go of the address too, or until
// the time is over: how long two have it is of interest.
func (e *entry) awaitEnd(ctx context.Context, until time.Time) error {
	limited, cancel := context.WithDeadlineCause(ctx, until, errBound)
	defer cancel()
	err := lab.Await(limited, func() error {
		left, err := e.owner.Owns(ctx, e.addr)
		if err == nil && left {
			err = errors.New("the old owner still has the address")
		}
		return err
	})
	if ctx.Err() == nil {
		return nil // what there is to be seen is in the result
	}
	return err
}

// collect returns what was seen.
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
		double: time.Duration(doublesAfter(e.witness.Doubles(), e.at)) * askEvery,
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
		r.reaction = reaction(e.old)
		r.handover = handoverOf(e.at, e.old, e.daemonOf(r.next))
	}
	return r, nil
}

// daemonOf returns the process on the host of this name, or else the old owner's.
func (e *entry) daemonOf(name string) *lab.Process {
	for i, h := range e.hosts {
		if h.Name == name {
			return e.daemons[i].current()
		}
	}
	return e.old
}

// end stops everything that was started, and goes on after an error.
func (e *entry) end() error {
	if e.client != nil {
		e.client.Stop()
	}
	if e.witness != nil {
		e.witness.Stop()
	}
	errs := make([]error, len(e.daemons), len(e.daemons)+1)
	var ended sync.WaitGroup
	for i, d := range e.daemons {
		ended.Go(func() { errs[i] = d.end() })
	}
	ended.Wait()
	return errors.Join(append(errs, e.keepLogs())...)
}

// clear removes the address where it was left behind.
func (e *entry) clear(ctx context.Context) error {
	var errs []error
	for _, h := range e.hosts {
		owns, err := h.Owns(ctx, e.addr)
		if owns {
			err = h.RemoveAddress("eth0", netip.PrefixFrom(e.addr, 32))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keepLogs writes what the daemons wrote, where that is wanted.
func (e *entry) keepLogs() error {
	if !e.keepsLogs {
		return nil
	}
	var errs []error
	for _, d := range e.daemons {
		name := filepath.Join(d.host.Dir, e.id()+".log")
		errs = append(errs, os.WriteFile(name, []byte(d.output()), 0o644))
	}
	return errors.Join(errs...)
}

// dump shows the end of what the daemons wrote, for an entry that failed.
func (e *entry) dump() {
	const tail = 15
	for _, d := range e.daemons {
		lines := strings.Split(strings.TrimSpace(d.output()), "\n")
		lines = lines[max(0, len(lines)-tail):]
		e.logf("    %s on %s said last:\n      %s", e.peer.name(), d.host.Name, strings.Join(lines, "\n      "))
	}
}
