// Command provision makes sure that the named programs, consul and nomad, are
// there for the integration tests and prints their paths. It looks for each in
// CONSUL_BIN or NOMAD_BIN, PATH and its own cache, and builds it from its Go module
// if it's in none of them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, name := range os.Args[1:] {
		path, err := provide(ctx, name)
		if err != nil {
			fmt.Fprintln(os.Stderr, "provision:", err)
			stop()
			os.Exit(1)
		}
		fmt.Println(path)
	}
}

func provide(ctx context.Context, name string) (string, error) {
	switch p := lab.Program(name); p {
	case lab.Consul, lab.Nomad:
		return p.Provide(ctx, os.Stderr)
	}
	return "", fmt.Errorf("%q is not consul or nomad", name)
}
