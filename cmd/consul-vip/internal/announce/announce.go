// Package announce announces one address without Consul: what "consul-vip announce" does.
//
// [Run] is one address's life from top to bottom: make sure that nobody has the address,
// bind it, announce it and watch for others, unbind it. It starts goroutines for the wire,
// for the events of the kernel and for the announcements, and joins them.
package announce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/capability"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/instance"
	"github.com/consul-vip/consul-vip/netif"
)

// ErrConflict means that another station has the address.
var ErrConflict = errors.New("address conflict")

// errDone ends the goroutines of Run without a failure.
var errDone = errors.New("done")

// Run announces the address until ctx ends, or o.Count is reached (nil). It leaves the
// address as it has found it, whatever the reason why it ends.
//
// The error wraps netif.ErrNoInterface or netif.ErrAmbiguous if there is no such interface
// or more than one, capability.ErrMissing, instance.ErrRunning if another process of this
// host announces the address, netif.ErrForeign if this host has it already and must not, or
// ErrConflict.
func Run(ctx context.Context, o Options) error {
	if err := capability.Check(needed(o)...); err != nil {
		return err
	}
	host, err := netif.Open(netif.AnnounceTag, o.Logger.Named("netif"))
	if err != nil {
		return err
	}
	defer host.Close()
	addr := o.Prefix.Addr()
	ifi, err := host.Find(addr, o.Interface)
	if err != nil {
		return err
	}
	if !o.Unmanaged {
		locked, err := instance.Lock(ctx, o.Logger, "announce="+addr.String())
		if err != nil {
			return err
		}
		defer locked.Close()
	}
	wire, err := announcer.Open(ifi, announcer.Of(addr), announcer.Options{
		Own:    host.Own,
		Router: func() bool { return host.Router(ifi.Name) },
		Logger: o.Logger.Named("announcer").With("interface", ifi.Name),
	})
	if err != nil {
		return err
	}
	return newService(o, ifi, kernel{host}, wire).run(ctx, host.Watch)
}

// needed are the capabilities that the options need.
func needed(o Options) []capability.Capability {
	if o.Unmanaged && !o.RemovePreExisting {
		return []capability.Capability{capability.NetRaw}
	}
	return []capability.Capability{capability.NetAdmin, capability.NetRaw}
}

// kernel is a netif.Host: its Bind returns the interface.
type kernel struct{ *netif.Host }

func (k kernel) Bind(ifindex int, p netip.Prefix, lifetime time.Duration) (bound, error) {
	a, err := k.Host.Bind(ifindex, p, lifetime)
	if err != nil {
		return nil, err // not a nil *netif.Address in a bound
	}
	return a, nil
}

// run serves the address beside the wire and the events of the kernel.
func (s *service) run(ctx context.Context, watch func(context.Context, chan<- netif.Event) error) error {
	if s.o.MAC != nil {
		s.wire.SetHardwareAddr(s.o.MAC)
	}
	g, running := errgroup.WithContext(context.WithoutCancel(ctx))
	events := make(chan netif.Event)
	g.Go(func() error { return s.wire.Run(running) })
	g.Go(func() error { return watch(running, events) })
	g.Go(func() error {
		// It ends with the command, or because the wire or the kernel has failed.
		serving, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(running, stop)()
		if err := s.serve(serving, events); err != nil {
			return err
		}
		return errDone
	})
	if err := g.Wait(); !errors.Is(err, errDone) {
		return fmt.Errorf("announce %s: %w", s.addr, err)
	}
	return nil
}

// bootTime reads the clock that goes on while the machine is suspended.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // only for a clock that there is not; Linux has it since 2.6.39
	}
	return time.Duration(t.Nano())
}
