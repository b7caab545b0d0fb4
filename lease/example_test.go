package lease_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// A program that serves a lock while it holds it, and is one of several that contend
// for it. It needs a Consul agent, so this example is compiled, but not run.
func Example() {
	var flags consul.Flags // as the environment says: CONSUL_HTTP_ADDR ...
	client, err := flags.Connect("", "", hclog.Default())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	keeper := lease.New(lease.Config{
		Client: client, Prefix: "leader", Service: "worker",
		SessionTTL: 30 * time.Second, CheckTTL: 3 * time.Second, Logger: hclog.Default(),
	})

	// The keeper runs until after the last Hold has returned.
	running, stopKeeper := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(running) }()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	owner, _ := state.NewOwner(map[string]string{"pid": fmt.Sprint(os.Getpid())})
	contender := keeper.Contend(lease.Lock{Name: "work", Owner: owner})
	end := contender.Hold(ctx, func(ctx context.Context, held *lease.Held) lease.Left {
		fmt.Println("previous owner:", held.Previous.Node)
		held.Bound() // from now on the lock may be transferred
		<-ctx.Done() // interrupted, or the lock is lost: stop at once
		return lease.Left{}
	})
	fmt.Println("hold ended:", end.Reason)
	contender.Close()
	stopKeeper()
	fmt.Println("keeper ended:", <-ended)
}
