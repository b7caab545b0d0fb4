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

// The example takes an address over and announces it until the process is
// interrupted. It needs CAP_NET_RAW.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		log.Fatal(err)
	}
	wire, err := announcer.Open(ifi, announcer.Options{})
	if err != nil {
		log.Fatal(err)
	}

	vip := netip.MustParseAddr("192.0.2.100")
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return wire.Run(ctx) })
	tasks.Go(func() error {
		err := wire.Probe(ctx, announcer.ProbeConfig{Addr: vip, Timeout: 10 * time.Second})
		if inUse, ok := errors.AsType[*announcer.InUseError](err); ok {
			log.Printf("another station has the address: %s", inUse.MAC)
		}
		if err != nil {
			return err
		}
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
