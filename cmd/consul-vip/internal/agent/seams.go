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

// What an agent and its VIPs need of the packages below them, and how they give
// it.

// keeper holds locks as a member of the cluster: lease.Keeper.
type keeper interface {
	locks
	Run(ctx context.Context) error
	Prioritize(delta int) (offset int)
	Leave()
}

// locks holds a lock while a function runs, and takes up what changes about it
// meanwhile; whether it did, Update says.
type locks interface {
	Hold(ctx context.Context, lock lease.Lock, fn func(context.Context, *lease.Held) error) error
	Update(lock lease.Lock) bool
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

// host is this machine: netif.Host.
type host interface {
	kernel
	Find(addr netip.Addr, name string) (*net.Interface, error)
	Clear(addrs []netip.Addr) ([]netip.Prefix, error)
	Watch(ctx context.Context, events chan<- netif.Event) error
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

// segment is what is behind an interface: announcer.Wire.
type segment interface {
	wire
	succession
	Run(ctx context.Context) error
	SetHardwareAddr(mac net.HardwareAddr)
}

// wire is what stations on the link hear and say: announcer.Wire.
type wire interface {
	Probe(ctx context.Context, q announcer.ProbeConfig) error
	Announce(ctx context.Context, a announcer.Announcement, again <-chan struct{}) error
	Listen(addr netip.Addr) listener
}

// succession is how an address passes from one host to the next on the wire.
type succession interface {
	SendReady(ctx context.Context, addr netip.Addr, owner net.HardwareAddr) error
	SendReleased(ctx context.Context, addr netip.Addr) error
	Handover(addr netip.Addr) handover
}

// handover waits for what the other side of a handover says: announcer.Handover.
type handover interface {
	AwaitReady(ctx context.Context, patience time.Duration) bool
	AwaitReleased(ctx context.Context, owner net.HardwareAddr, patience time.Duration) bool
	Close()
}

// listener hears claims on an address: announcer.Listener.
type listener interface {
	Claims() <-chan announcer.Claim
	Close()
}

type hostKernel struct{ *netif.Host }

func (k hostKernel) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error) {
	a, err := k.Host.Bind(ifindex, p, lifetime)
	if err != nil {
		return nil, err // not a nil *netif.Address in a bound
	}
	return a, nil
}

type linkWire struct{ *announcer.Wire }

func (w linkWire) Listen(addr netip.Addr) listener   { return w.Wire.Listen(addr) }
func (w linkWire) Handover(addr netip.Addr) handover { return w.Wire.Handover(addr) }
