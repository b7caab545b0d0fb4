// Command chaos tries to make consul-vip break what it promises: on three hosts
// with a real Consul it has everything go wrong that can, one fault after the
// other or two at a time, while an observer asks every ten milliseconds who has
// each of ten addresses.
//
// What goes wrong when depends on the seed alone, which is printed and can be
// given. What must hold all the while is in invariants.go. For every violation
// it writes a file with everything that was logged, done and seen around it.
//
// It exits with 0 if everything held, with 1 if not, and with 130 if it was
// interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	exitViolated    = 1
	exitInterrupted = 130 // as a shell would say it
)

func main() {
	o := options{out: os.Stdout}
	flag.StringVar(&o.binary, "bin", os.Getenv("CONSUL_VIP_BIN"), "the consul-vip `binary` to try (default: built now, as bin/consul-vip)")
	flag.Uint64Var(&o.seed, "seed", seedOf(), "what the faults are drawn from")
	flag.IntVar(&o.faults, "faults", 200, "how many faults")
	flag.DurationVar(&o.limit, "for", 0, "begin no fault after this `time` (default: no limit)")
	flag.StringVar(&o.dir, "out", ".", "`directory` for the files of violations")
	list := flag.Bool("list", false, "only list the faults")
	flag.Parse()
	if *list {
		for _, g := range Schedule(o.seed, o.faults) {
			for _, f := range g.Faults {
				fmt.Printf("%v later, %s\n", g.Pause+f.After, f)
			}
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := tryAll(ctx, o)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		os.Exit(exitInterrupted)
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(exitViolated)
	}
}

// seedOf draws a seed that is short to type; a process inside a namespace of
// its own keeps the one of the process that it was started by.
func seedOf() uint64 { return rand.Uint64N(1_000_000) }

// tryAll runs the faults and makes violations an error.
func tryAll(ctx context.Context, o options) error {
	p, err := lab.Prepare(ctx, o.binary, os.Stderr)
	if err != nil {
		return err
	}
	o.consul, o.binary = p.Consul, p.ConsulVIP
	began := time.Now()
	fmt.Printf("seed %d, %d faults\n", o.seed, o.faults)
	found, err := chaos(ctx, o)
	fmt.Printf("\nseed %d, %v: %d violations\n", o.seed, time.Since(began).Round(time.Second), len(found))
	if len(found) > 0 {
		err = errors.Join(fmt.Errorf("violated: %s", strings.Join(invariantsOf(found), ", ")), err)
	}
	return err
}
