package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	addrs   []netip.Addr
	addr    netip.Addr   // the first, where there are several
	daemons []*daemon    // in the order of the trial's hosts
	old     *lab.Process // the owner's, when the failure began

	clients *lab.ClientGroup // of all addresses; nil: does not run
	wire    *lab.Observer    // nil: does not run
	web     *web             // nil: does not run
	result  result
}

const (
	// many is the number of addresses of the scenarios with many.
	many = 100
	// manyClientInterval and manyObserveInterval are the times between two requests and
	// between two questions about each of them: on a machine with two cores, the
	// measurement must leave most of the time to what it measures.
	manyClientInterval  = 10 * time.Millisecond
	manyObserveInterval = 50 * time.Millisecond
)

// newEntry prepares a peer's part. The first one's address is 10.77.0.100 or fd77::100,
// and that of many is 10.77.1.1 or fd77::1:1.
func newEntry(t *trial, p peer, number int) *entry {
	e := &entry{trial: t, peer: p, number: number}
	addr := addr4
	if p == overIPv6 {
		addr = addr6
	}
	if t.scenario.many {
		for i := range byte(many) {
			e.addrs = append(e.addrs, addr(1, 1+i))
		}
	} else {
		e.addrs = []netip.Addr{addr(0, byte(100+number))}
	}
	e.addr = e.addrs[0]
	return e
}

func addr4(group, number byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, group, number}) }

// addr6 returns an address whose last part is the decimal number.
func addr6(group, number byte) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd77::%d:%d", group, number))
}

// clientInterval is the time between two requests of a client.
func (s scenario) clientInterval() time.Duration {
	if s.many {
		return manyClientInterval
	}
	return lab.ClientInterval
}

// observeInterval is the time between two questions of the observer about an address.
func (s scenario) observeInterval() time.Duration {
	if s.many {
		return manyObserveInterval
	}
	return lab.ObserveInterval
}

// id names the entry in a key, a file name and an environment variable.
func (e *entry) id() string {
	id := fmt.Sprintf("%s-%s-%d-%d", e.peer.name(), e.scenario.name, e.repetition, e.number)
	return strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(id)
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
	if e.wire, err = e.Observer.NewObserver(e.scenario.observeInterval(), e.addrs...); err != nil {
		return err
	}
	if e.clients, err = e.Client.NewClients(e.scenario.clientInterval(), e.addrs...); err != nil {
		return err
	}
	if err := lab.Await(ctx, e.answeredByOwner); err != nil || !e.scenario.web {
		return err
	}
	e.web, err = e.startWeb(ctx)
	return err
}

// answeredByOwner returns an error unless the owner answers all clients.
func (e *entry) answeredByOwner() error {
	for _, c := range e.clients.All {
		if err := c.CheckAnsweredBy(e.owner); err != nil {
			return err
		}
	}
	return nil
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
	if e.clients != nil {
		e.clients.Stop()
	}
	if e.wire != nil {
		e.wire.Stop()
	}
	errs := make([]error, len(e.daemons), len(e.daemons)+2)
	var ended sync.WaitGroup
	for i, d := range e.daemons {
		ended.Go(func() { errs[i] = d.end() })
	}
	ended.Wait()
	if e.web != nil {
		errs = append(errs, e.web.end())
	}
	return errors.Join(append(errs, e.keepLogs())...)
}

// clear removes the addresses from every host that still has them.
func (e *entry) clear(ctx context.Context) error {
	var errs []error
	for _, h := range e.hosts {
		bound, err := e.boundOn(ctx, h)
		errs = append(errs, err)
		for _, addr := range bound {
			// Its lifetime may have ended in the meantime.
			if err := h.RemoveAddress("eth0", netip.PrefixFrom(addr, addr.BitLen())); !errors.Is(err, unix.EADDRNOTAVAIL) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// boundOn returns which of the addresses a host has.
func (e *entry) boundOn(ctx context.Context, h *lab.Host) (bound []netip.Addr, err error) {
	all, err := h.Addresses(ctx)
	for _, a := range all {
		if addr := a.Prefix.Addr(); slices.Contains(e.addrs, addr) {
			bound = append(bound, addr)
		}
	}
	return bound, err
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
