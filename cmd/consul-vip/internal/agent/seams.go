package agent

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/netif"
)

// What a VIP needs of the packages below it, and how they give it.

// locks holds a lock while a function runs: lease.Keeper.
type locks interface {
	Hold(ctx context.Context, lock lease.Lock, fn func(context.Context, *lease.Held) error) error
}

// hold is a lock while it is held: lease.Held.
type hold interface {
	deadline
	Verify(ctx context.Context) error
	Serving()
}

// deadline is until when it may be believed in.
type deadline interface {
	Remaining() time.Duration
	Since() time.Duration
	Now() time.Duration
}

// kernel binds addresses to interfaces: netif.Host.
type kernel interface {
	Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error)
}

// bound is an address while it is bound: netif.Address.
type bound interface {
	Refresh(lifetime time.Duration) (restored bool, err error)
	Taken() error
	Unbind() error
}

// wire is what stations on the link hear and say: announcer.Wire.
type wire interface {
	Ask(ctx context.Context, q announcer.Question) error
	Announce(ctx context.Context, a announcer.Announcement, again <-chan struct{}) error
	Listen(addr netip.Addr) listener
}

// succession is how an address passes from one host to the next on the wire.
type succession interface {
	Call(ctx context.Context, addr netip.Addr, owner net.HardwareAddr) error
	Yield(ctx context.Context, addr netip.Addr) error
	Heir(addr netip.Addr) heir
}

// heir waits for what the other side of a handover says: announcer.Heir.
type heir interface {
	Called(ctx context.Context, patience time.Duration) bool
	Await(ctx context.Context, owner net.HardwareAddr, patience time.Duration) bool
	Close()
}

// listener hears claims on an address: announcer.Listener.
type listener interface {
	Claims() <-chan announcer.Claim
	Close()
}

type hostKernel struct{ host *netif.Host }

func (k hostKernel) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error) {
	a, err := k.host.Bind(ifindex, p, lifetime)
	if err != nil {
		return nil, err // not a nil *netif.Address in a bound
	}
	return a, nil
}

type linkWire struct{ *announcer.Wire }

func (w linkWire) Listen(addr netip.Addr) listener { return w.Wire.Listen(addr) }
func (w linkWire) Heir(addr netip.Addr) heir       { return w.Wire.Heir(addr) }
