// Command chaos tries to make consul-vip break its promises: on three hosts with a real
// Consul, whose agents there are clients or servers, it causes all kinds of faults, one after the other or two at a time, while an
// observer asks every ten milliseconds which host has each of ten addresses.
//
// The faults and their times depend only on the world and the seed, which are printed
// and can be given. invariants.go has what must always hold. For every violation, chaos writes a
// file with all logs, faults and observations around it.
//
// It exits with 0 if everything held, with 1 if not, and with 130 if it was interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func main() {
	o := options{out: os.Stdout, world: lab.Clients}
	bin := flag.String("bin", lab.Binary(), "the consul-vip `binary` to try (default: built now, as bin/consul-vip)")
	flag.Var(&o.world, "world", "how Consul runs: \"clients\" on the hosts, its servers elsewhere and on a network of their own,\nor \"servers\" on the hosts and one network")
	flag.Uint64Var(&o.seed, "seed", shortSeed(), "the faults depend on this `number`")
	flag.IntVar(&o.faults, "faults", 200, "how many faults")
	flag.DurationVar(&o.limit, "for", 0, "begin no fault after this `time` (default: no limit)")
	flag.StringVar(&o.dir, "out", ".", "`directory` for the files of violations")
	list := flag.Bool("list", false, "only list the faults")
	flag.Parse()
	if *list {
		printSchedule(o)
		return
	}
	os.Exit(lab.Main("chaos", func(ctx context.Context) error { return tryAll(ctx, o, *bin) }))
}

// shortSeed draws a seed that is short to type.
func shortSeed() uint64 { return rand.Uint64N(1_000_000) }

// printSchedule prints the faults, each with the time since the end of the group before.
func printSchedule(o options) {
	for _, g := range Schedule(o.world, o.seed, o.faults) {
		for _, f := range g.Faults {
			fmt.Fprintf(o.out, "%v later, %s\n", g.Pause+f.After, f)
		}
	}
}

// tryAll runs the faults. It returns an error if an invariant was violated.
func tryAll(ctx context.Context, o options, bin string) (err error) {
	// Entering a namespace may start this program once more, with another seed, so the
	// seed is printed after that.
	if o.programs, err = lab.Prepare(ctx, bin, os.Stderr); err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(o.out, "world %s, seed %d, %d faults\n", o.world, o.seed, o.faults)
	found, err := chaos(ctx, o)
	fmt.Fprintf(o.out, "\nworld %s, seed %d, %v: %d violations\n", o.world, o.seed, time.Since(began).Round(time.Second), len(found))
	if len(found) > 0 {
		err = errors.Join(fmt.Errorf("violated: %s", strings.Join(invariantsOf(found), ", ")), err)
	}
	return err
}
