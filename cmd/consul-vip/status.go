package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/consul-vip/consul-vip/lease"
)

type statusCommand struct{ stdout, stderr io.Writer }

func (*statusCommand) Synopsis() string { return "Show who has each address" }

func (c *statusCommand) Help() string {
	return help("status [-json] [-watch] [options]", `
  Shows for every address below the prefix who has it: a node with its
  interface, MAC and since when, another program such as consul lock, or
  nobody; who contends for it, with the priorities; and why nobody takes it.
  Asks Consul only, so it runs anywhere, and needs no more than read access to
  the keys, and to sessions for the names of other programs' locks.

  With -watch it goes on until it is stopped by SIGINT or SIGTERM, and shows
  every change as it happens; with -json as one line for each.

  Exit codes: 0 each address has an owner, 1 one has none, or failure, 2 usage;
  with -watch 0 once stopped.`, c.flags(nil).FlagSet)
}

type statusFlags struct {
	*operatorFlags
	json, watch bool
}

func (c *statusCommand) flags(out io.Writer) *statusFlags {
	f := &statusFlags{operatorFlags: newOperatorFlags("status", out)}
	f.BoolVar(&f.json, "json", false, "print JSON")
	f.BoolVar(&f.watch, "watch", false, "go on, and show every change")
	return f
}

func (c *statusCommand) Run(args []string) int {
	f := c.flags(c.stderr)
	if err := f.parse(args); err != nil {
		return exitCode(err)
	}
	if err := f.noArguments(); err != nil {
		return report(c.stderr, err)
	}
	d := newDisplay(c.stdout, f)
	if f.watch {
		return report(c.stderr, c.watch(f, d))
	}
	return report(c.stderr, f.operate(func(ctx context.Context, o *lease.Operator) error {
		rows, err := o.List(ctx)
		if err != nil {
			return err
		}
		if err := d.show(rows); err != nil {
			return err
		}
		return ownerless(rows)
	}))
}

// watch shows changes until a signal comes. That Consul is away does not end it.
func (c *statusCommand) watch(f *statusFlags, d *display) error {
	o, err := f.operator()
	if err != nil {
		return err
	}
	ctx, stop := untilStopSignal()
	defer stop()
	silent := false
	for rows, err := range o.Follow(ctx) {
		switch {
		case err == nil:
			if silent {
				fmt.Fprintln(c.stderr, "consul-vip: Consul answers again")
			}
			if err := d.show(rows); err != nil {
				return err
			}
		case !silent:
			fmt.Fprintf(c.stderr, "consul-vip: %v; trying again\n", err)
		}
		silent = err != nil
	}
	return nil
}

// ownerless objects to addresses that nobody has.
func ownerless(rows []lease.Status) error {
	var free []string
	for _, row := range rows {
		if row.State == lease.StatusFree {
			free = append(free, row.VIP)
		}
	}
	if len(free) == 0 {
		return nil
	}
	return fmt.Errorf("nobody has %s", strings.Join(free, ", "))
}
