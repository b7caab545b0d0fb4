package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

type statusCommand struct{ stdout, stderr io.Writer }

func (*statusCommand) Synopsis() string { return "Show which node holds each address" }

func (c *statusCommand) Help() string {
	return help("status [-json] [-watch | -local] [options]", `
  Shows for every address below the prefix:

    - its owner: a node (with interface, MAC and since when), another program
      such as consul lock, or none
    - the members that contend for it, with their priorities
    - the reason if no node takes it

  The command only talks to Consul, so it runs on any host. It needs read access
  to the keys, and to sessions for the names of other programs' locks.

  With -watch it shows every change as it happens, until SIGINT or SIGTERM stops
  it. With -watch and -json each change is one line.

  With -local it asks the agent of this host instead, over the unix socket that
  the agent's configuration names, also while Consul is down: what this host does
  for each address, for how long it may hold it without an answer from Consul
  (HOLD) and for how long the kernel keeps it without the agent (KERNEL), the
  checks of services and of other hosts, and what happened last. Only the agent's
  user and root may ask. Of the other options only -json and -timeout apply.

  Exit codes: 0 every address has an owner, 1 an address has none, or failure,
  2 usage. With -watch: 0 stopped. With -local: 0 the agent has answered, 1 failure.`, c.flags(nil).FlagSet)
}

type statusFlags struct {
	*operatorFlags
	json, watch, local bool
	socket             string
}

func (c *statusCommand) flags(out io.Writer) *statusFlags {
	f := &statusFlags{operatorFlags: newOperatorFlags("status", out)}
	f.BoolVar(&f.json, "json", false, "print JSON")
	f.BoolVar(&f.watch, "watch", false, "keep running and show every change")
	f.BoolVar(&f.local, "local", false, "ask the agent of this host, not Consul")
	f.StringVar(&f.socket, "socket", config.DefaultSocket, "with -local: the `path` of the agent's socket")
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
	if err := f.checkLocal(); err != nil {
		return report(c.stderr, err)
	}
	if f.local {
		return report(c.stderr, c.local(f))
	}
	d := newDisplay(c.stdout, f)
	if f.watch {
		return report(c.stderr, c.watch(f, d))
	}
	return report(c.stderr, f.operate(func(ctx context.Context, o *operator.Operator) error {
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

// watch shows every change until SIGTERM or SIGINT arrives. It continues while
// Consul does not answer, and reports only the first failure of a series.
func (c *statusCommand) watch(f *statusFlags, d *display) error {
	o, err := f.operator()
	if err != nil {
		return err
	}
	ctx, stop := untilStopSignal()
	defer stop()
	failing := false
	for rows, err := range o.Follow(ctx) {
		switch {
		case err == nil:
			if failing {
				fmt.Fprintln(c.stderr, "consul-vip: Consul answers again")
			}
			if err := d.show(rows); err != nil {
				return err
			}
		case !failing:
			fmt.Fprintf(c.stderr, "consul-vip: %v; trying again\n", err)
		}
		failing = err != nil
	}
	return nil
}

// ownerless returns an error that names the addresses without an owner, and those whose
// owner is not known, or nil.
func ownerless(rows []operator.Status) error {
	found := map[string][]string{}
	for _, row := range rows {
		found[row.State] = append(found[row.State], row.VIP)
	}
	var texts []string
	if free := found[state.StatusFree]; len(free) > 0 {
		texts = append(texts, "no owner: "+strings.Join(free, ", "))
	}
	if unknown := found[state.StatusUnknown]; len(unknown) > 0 {
		texts = append(texts, "owner not known: "+strings.Join(unknown, ", "))
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}
