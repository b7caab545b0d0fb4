// Command demo shows consul-vip at work: three hosts in network namespaces, a real
// Consul cluster, and a client that sends a request to the floating address every
// millisecond while the address's owner is stopped, then killed, and then meets a
// forged claim.
//
// It exits with 0 if the client saw what it should see, with 1 if not, and with 130
// if it was interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func main() {
	bin := flag.String("bin", lab.Binary(), "the consul-vip `binary` to show (default: built now, as bin/consul-vip)")
	flag.Parse()
	os.Exit(lab.Main("demo", func(ctx context.Context) error { return run(ctx, *bin) }))
}

func run(ctx context.Context, bin string) (err error) {
	p, err := lab.Prepare(ctx, bin, os.Stderr)
	if err != nil {
		return err
	}
	d, err := newDemoLab(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.play(ctx)
}
