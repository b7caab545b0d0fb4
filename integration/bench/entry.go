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

// startTimeout is how long an entry's daemons may take to be ready.
const startTimeout = 30 * time.Second

// entry is one peer's part in a trial: its daemons on all hosts, its address, and a
// client and an observer of that address.
type entry struct {
	*trial
	peer    peer
	number  int // among the trial's entries, from 0
	addr    netip.Addr
	daemons []*daemon    // in the order of the trial's hosts
	old     *lab.Process // the owner's, when the failure began

	client *lab.Client   // nil: does not run
	wire   *lab.Observer // nil: does not run
	result result
}

// newEntry prepares a peer's part. The first one's address is 10.77.0.100.
func newEntry(t *trial, p peer, number int) *entry {
	return &entry{trial: t, peer: p, number: number, addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + number)})}
}

// id names the entry in a key, a file name and an environment variable.
func (e *entry) id() string {
	id := fmt.Sprintf("%s-%s-%d-%d", e.peer.name(), e.scenario.name, e.repetition, e.number)
	return strings.ReplaceAll(id, " ", "-")
}

// start starts all daemons, the client and the observer. It returns when the first
// host is the owner and all others are standbys.
func (e *entry) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("not ready in time"))
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
	if e.wire, err = e.Observer.NewObserver(lab.ObserveInterval, e.addr); err != nil {
		return err
	}
	if e.client, err = e.Client.NewClient(e.addr); err != nil {
		return err
	}
	return lab.Await(ctx, func() error { return e.client.CheckAnsweredBy(e.owner) })
}

// startDaemon starts the daemon of the host with this rank.
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

// daemonOf returns the current process on the host of this name, or else the old
// owner's.
func (e *entry) daemonOf(name string) *lab.Process {
	for i, h := range e.hosts {
		if h.Name == name {
			return e.daemons[i].current()
		}
	}
	return e.old
}

// end stops everything that was started. It goes on after an error.
func (e *entry) end() error {
	if e.client != nil {
		e.client.Stop()
	}
	if e.wire != nil {
		e.wire.Stop()
	}
	errs := make([]error, len(e.daemons), len(e.daemons)+1)
	var ended sync.WaitGroup
	for i, d := range e.daemons {
		ended.Go(func() { errs[i] = d.end() })
	}
	ended.Wait()
	return errors.Join(append(errs, e.keepLogs())...)
}

// clear removes the address from every host that still has it.
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

// keepLogs writes the daemons' output to files, if logs are to be kept.
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

// dump reports the end of the daemons' output, for an entry that failed.
func (e *entry) dump() {
	const tail = 15
	for _, d := range e.daemons {
		lines := strings.Split(strings.TrimSpace(d.output()), "\n")
		lines = lines[max(0, len(lines)-tail):]
		e.logf("    last output of %s on %s:\n      %s", e.peer.name(), d.host.Name, strings.Join(lines, "\n      "))
	}
}
