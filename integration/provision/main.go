// Command provision makes sure that there's a Consul for the integration tests
// and prints its path. It looks into CONSUL_BIN, PATH and its own cache, and builds
// Consul from its Go module if it's in none of them.
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
	path, err := lab.ProvideConsul(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "provision:", err)
		stop()
		os.Exit(1)
	}
	fmt.Println(path)
}
