// Package probe asks on the wire who has an address, and holds the answers against what
// Consul says: what "consul-vip probe" does.
//
// [Ask] needs the wire, [Judge] is pure.
package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/netif"
)

// Target is an address to ask for.
type Target struct {
	Addr      netip.Addr
	Interface string // empty: the one in whose subnet the address is
}

// Found is what is known of a Target on its segment, and on this host.
type Found struct {
	Target
	Answers  []announcer.Answer // of other stations
	Here     bool               // this host has the address
	MAC      net.HardwareAddr   // of the interface
	Neighbor net.HardwareAddr   // to which this host sends packets for the address; nil: to none
	Err      error              // why it could not be asked
}

// Asker asks for addresses. Close it after use.
type Asker struct {
	host   *netif.Host
	tries  int
	window time.Duration
	log    hclog.Logger
	runs   sync.WaitGroup
	wires  map[wireKey]*announcer.Wire
}

// wireKey names a wire.
type wireKey struct {
	index  int
	family announcer.Family
}

// NewAsker returns an Asker that asks everybody so many times, and waits for a window
// after each.
func NewAsker(tries int, window time.Duration, log hclog.Logger) (*Asker, error) {
	host, err := netif.Open(netif.AgentTag, log)
	if err != nil {
		return nil, err
	}
	return &Asker{host: host, tries: tries, window: window, log: log, wires: map[wireKey]*announcer.Wire{}}, nil
}

// Ask asks for all targets at the same time and returns what it has found, in their
// order.
func (a *Asker) Ask(ctx context.Context, targets []Target) []Found {
	found := make([]Found, len(targets))
	running, stop := context.WithCancel(ctx)
	defer a.runs.Wait()
	defer stop()
	var all errgroup.Group
	for i, t := range targets {
		f := &found[i]
		f.Target = t
		ifi, wire, err := a.wire(running, t)
		if err != nil {
			f.Err = err
			continue
		}
		f.Interface, f.MAC = ifi.Name, ifi.HardwareAddr
		all.Go(func() error {
			f.Err = a.ask(ctx, f, ifi.Index, wire)
			return nil
		})
	}
	_ = all.Wait() // every error is in its Found
	clear(a.wires)
	return found
}

// wire returns the interface of a target and its wire.
func (a *Asker) wire(ctx context.Context, t Target) (*net.Interface, *announcer.Wire, error) {
	ifi, err := a.host.Find(t.Addr, t.Interface)
	if err != nil {
		return nil, nil, err
	}
	key := wireKey{ifi.Index, announcer.Of(t.Addr)}
	if w := a.wires[key]; w != nil {
		return ifi, w, nil
	}
	w, err := announcer.Open(ifi, key.family, announcer.Options{Own: a.host.Own, Logger: a.log})
	if err != nil {
		return nil, nil, err
	}
	a.wires[key] = w
	a.runs.Go(func() { _ = w.Run(ctx) }) // each caller gets the error
	return ifi, w, nil
}

// ask asks for one target.
func (a *Asker) ask(ctx context.Context, f *Found, index int, w *announcer.Wire) error {
	here, err := a.host.Identity(index)
	if err != nil {
		return err
	}
	bound, err := a.host.Bound(f.Addr)
	if err != nil {
		return err
	}
	f.Here = len(bound) > 0
	// The neighbor entry of this host is looked up first: the answers may change it.
	if f.Neighbor, err = a.host.Neighbor(index, f.Addr); err != nil {
		return err
	}
	f.Answers, err = w.WhoHas(ctx, announcer.Query{Addr: f.Addr, Source: here.Source(f.Addr), Tries: a.tries, Window: a.window})
	return err
}

// Close closes the Asker. It must not be asking.
func (a *Asker) Close() error { return a.host.Close() }

// ErrInterface reports whether an error says that a target has no interface, or several.
func ErrInterface(err error) bool {
	return errors.Is(err, netif.ErrNoInterface) || errors.Is(err, netif.ErrAmbiguous)
}
