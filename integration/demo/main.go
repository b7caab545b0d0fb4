// Command demo shows consul-vip at work: three hosts in network namespaces, a real
// Consul cluster, and a client that sends a request to the floating address every
// millisecond while its owner is stopped, killed, and cheated out of it.
//
// It exits with 0 if the client saw what it should, with 1 if not, and with 130
// if it was interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	exitFailed      = 1
	exitInterrupted = 130 // as a shell would say it
)

func main() {
	bin := flag.String("bin", os.Getenv("CONSUL_VIP_BIN"), "the consul-vip `binary` to show (default: built now, as bin/consul-vip)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *bin)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Println("\nInterrupted. Everything that was started has been stopped.")
		os.Exit(exitInterrupted)
	case err != nil:
		fmt.Fprintln(os.Stderr, "\nThis is not what should have happened:", err)
		os.Exit(exitFailed)
	}
}

func run(ctx context.Context, bin string) (err error) {
	p, err := lab.Prepare(ctx, bin, os.Stderr)
	if err != nil {
		return err
	}
	s, err := newStage(ctx, p.Consul, p.ConsulVIP)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.play(ctx)
}
