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
	"path/filepath"
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

// run prepares what the demonstration needs, in this order: once inside a
// namespace without a network, nothing can be built any more.
func run(ctx context.Context, bin string) (err error) {
	consul, err := lab.ProvideConsul(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if bin, err = provideBinary(ctx, bin); err != nil {
		return err
	}
	if err := errors.Join(os.Setenv("CONSUL_BIN", consul), os.Setenv("CONSUL_VIP_BIN", bin)); err != nil {
		return err
	}
	if err := lab.Enter(); err != nil {
		return err
	}
	s, err := newStage(ctx, consul, bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.play(ctx)
}

// provideBinary returns the absolute path of the binary, which it builds if
// there's none.
func provideBinary(ctx context.Context, bin string) (string, error) {
	if bin != "" {
		return filepath.Abs(bin)
	}
	root, err := lab.ModuleRoot()
	if err != nil {
		return "", err
	}
	bin = filepath.Join(root, "bin", "consul-vip")
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", err
	}
	return bin, lab.BuildBinary(ctx, bin)
}
