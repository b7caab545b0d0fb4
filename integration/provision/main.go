// Command provision makes sure that the named programs, consul and nomad, are there for
// the integration tests, and prints their paths. It looks for each in CONSUL_BIN or
// NOMAD_BIN, in PATH and in its own cache, and builds it from its Go module if it is in
// none of them.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func main() {
	os.Exit(lab.Main("provision", func(ctx context.Context) error { return provideAll(ctx, os.Args[1:]) }))
}

// provideAll provides the programs one after the other.
func provideAll(ctx context.Context, names []string) error {
	for _, name := range names {
		p := lab.Program(name)
		if p != lab.Consul && p != lab.Nomad {
			return fmt.Errorf("%q is not consul or nomad", name)
		}
		path, err := p.Provide(ctx, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}
