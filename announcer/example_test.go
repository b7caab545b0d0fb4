package announcer_test

import (
	"context"
	"errors"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/announcer"
)

// The example takes an address over from another host and announces it until the
// process is interrupted. It needs CAP_NET_RAW.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		log.Fatal(err)
	}
	wire, err := announcer.Open(ifi, announcer.IPv4, announcer.Options{})
	if err != nil {
		log.Fatal(err)
	}

	vip := netip.MustParseAddr("192.0.2.100")
	previous := announcer.Host{
		Addr: netip.MustParseAddr("192.0.2.12"),
		MACs: []net.HardwareAddr{{0x02, 0, 0, 0, 0, 0x12}},
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return wire.Run(ctx) })
	tasks.Go(func() error {
		proof, err := wire.Prove(ctx, announcer.ProofConfig{
			Addr:      vip,
			Source:    netip.MustParseAddr("192.0.2.11"), // this host
			Owners:    []announcer.Host{previous},
			Witnesses: announcer.Witnesses{Gateway: announcer.Host{Addr: netip.MustParseAddr("192.0.2.1")}},
			Timeout:   10 * time.Second,
		})
		if inUse, ok := errors.AsType[*announcer.InUseError](err); ok {
			log.Printf("another station has the address: %s", inUse.MAC)
		}
		if err != nil {
			return err
		}
		log.Printf("no station has the address, proved by %s in %s", proof.By, proof.Took)
		// Bind the address to the interface here.
		return wire.Announce(ctx, announcer.Announcement{
			Addr: vip,
			Schedule: func() announcer.Schedule {
				return announcer.Schedule{Interval: 10 * time.Second, Jitter: time.Second}
			},
		}, nil)
	})
	if err := tasks.Wait(); err != nil {
		log.Print(err)
	}
}

// The example tells when another host is dead.
func ExampleWire_CheckHost() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		log.Fatal(err)
	}
	wire, err := announcer.Open(ifi, announcer.IPv4, announcer.Options{})
	if err != nil {
		log.Fatal(err)
	}

	gateway := announcer.Host{Addr: netip.MustParseAddr("192.0.2.1")}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return wire.Run(ctx) })
	tasks.Go(func() error {
		return wire.CheckHost(ctx, announcer.HostCheckConfig{
			Host: announcer.Host{
				Addr: netip.MustParseAddr("192.0.2.12"),
				MACs: []net.HardwareAddr{{0x02, 0, 0, 0, 0, 0x12}},
			},
			Source:    netip.MustParseAddr("192.0.2.11"), // this host
			Interval:  25 * time.Millisecond,
			Misses:    8,
			Witnesses: func() announcer.Witnesses { return announcer.Witnesses{Gateway: gateway} },
		}, func(s announcer.HostState) {
			log.Printf("dead: %t, last heard %s ago", s.Dead, time.Since(s.Since))
		})
	})
	if err := tasks.Wait(); err != nil {
		log.Print(err)
	}
}
