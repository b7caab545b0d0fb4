package agent

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/internal/latest"
)

// wires are the wires of an interface, one for each family that has an address there. A
// family that has none costs nothing. It is safe for concurrent use.
type wires struct {
	open func(announcer.Family) (*announcer.Wire, error)
	used latest.Wake // set after a family was used for the first time

	mu  sync.Mutex // guards all following fields
	of  map[announcer.Family]*announcer.Wire
	mac net.HardwareAddr // the last one set; nil: the wires have found it themselves
}

func newWires(open func(announcer.Family) (*announcer.Wire, error)) *wires {
	return &wires{open: open, used: latest.NewWake(), of: map[announcer.Family]*announcer.Wire{}}
}

// Use opens the wire of an address, if it is not open. Everything else that is done with
// the address comes after that.
func (w *wires) Use(addr netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := announcer.Of(addr)
	if w.of[f] != nil {
		return nil
	}
	opened, err := w.open(f)
	if err != nil {
		return err
	}
	if w.mac != nil {
		opened.SetHardwareAddr(w.mac)
	}
	w.of[f] = opened
	w.used.Set()
	return nil
}

// wire returns the wire of an address.
func (w *wires) wire(addr netip.Addr) *announcer.Wire {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.of[announcer.Of(addr)]
}

// all returns the wires that are open.
func (w *wires) all() (all []*announcer.Wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range []announcer.Family{announcer.IPv4, announcer.IPv6} {
		if w.of[f] != nil {
			all = append(all, w.of[f])
		}
	}
	return all
}

// Run runs the wires until ctx ends or one of them fails. Call it once.
func (w *wires) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for started := map[*announcer.Wire]bool{}; ; {
			for _, one := range w.all() {
				if !started[one] {
					started[one] = true
					g.Go(func() error { return one.Run(ctx) })
				}
			}
			select {
			case <-w.used:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// SetHardwareAddr is [announcer.Wire.SetHardwareAddr] for all wires.
func (w *wires) SetHardwareAddr(mac net.HardwareAddr) {
	w.mu.Lock()
	w.mac = mac
	w.mu.Unlock()
	for _, one := range w.all() {
		one.SetHardwareAddr(mac)
	}
}

// LastHeard is [announcer.Wire.LastHeard] for all wires.
func (w *wires) LastHeard() (last time.Time) {
	for _, one := range w.all() {
		if at := one.LastHeard(); at.After(last) {
			last = at
		}
	}
	return last
}

// HeardSince is [announcer.Wire.HeardSince] for all wires.
func (w *wires) HeardSince(mac net.HardwareAddr, t time.Time) bool {
	for _, one := range w.all() {
		if one.HeardSince(mac, t) {
			return true
		}
	}
	return false
}

// All others are methods of the wire of an address.

func (w *wires) Listen(addr netip.Addr) listener   { return w.wire(addr).Listen(addr) }
func (w *wires) Handover(addr netip.Addr) handover { return w.wire(addr).Handover(addr) }

func (w *wires) Announce(ctx context.Context, a announcer.Announcement, again <-chan struct{}) error {
	return w.wire(a.Addr).Announce(ctx, a, again)
}

func (w *wires) Prove(ctx context.Context, c announcer.ProofConfig) (announcer.Proof, error) {
	return w.wire(c.Addr).Prove(ctx, c)
}

func (w *wires) SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr, n announcer.Nonce) error {
	return w.wire(addr).SendReady(ctx, addr, owner, n)
}

func (w *wires) SendReleased(ctx context.Context, addr netip.Addr, successor net.HardwareAddr, n announcer.Nonce) error {
	return w.wire(addr).SendReleased(ctx, addr, successor, n)
}

// CheckHost is [announcer.Wire.CheckHost]. The canary may be of another family than the
// check.
func (w *wires) CheckHost(ctx context.Context, c announcer.HostCheckConfig, changed func(announcer.HostState)) error {
	find := c.Canary
	c.Canary = func() announcer.Canary {
		canary := find()
		canary.Wire = w.wire(canary.Addr)
		return canary
	}
	c.Others = w.all // the one of the check itself does not matter twice
	return w.wire(c.Host.Addr).CheckHost(ctx, c, changed)
}

// Meet is [announcer.Wire.Meet]. It returns at once if no address of the host's family is in
// use.
func (w *wires) Meet(ctx context.Context, source, host netip.Addr) error {
	wire := w.wire(host)
	if wire == nil {
		return nil
	}
	return wire.Meet(ctx, source, host)
}

func (w *wires) MeasureLoss(ctx context.Context, source netip.Addr, host announcer.Host, interval time.Duration) error {
	return w.wire(host.Addr).MeasureLoss(ctx, source, host, interval)
}

func (w *wires) Witnessed(ctx context.Context, source netip.Addr, ws announcer.Witnesses) bool {
	return w.wire(source).Witnessed(ctx, source, ws)
}
