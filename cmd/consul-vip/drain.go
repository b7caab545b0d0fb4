package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/consul-vip/consul-vip/lease"
)

type drainCommand struct{ stdout, stderr io.Writer }

func (*drainCommand) Synopsis() string { return "Have a node give all its addresses away" }

func (c *drainCommand) Help() string {
	f, _ := nodeFlags("drain", nil)
	return help("drain [-node=NODE] [options]", `
  Has a node hand all its addresses to others, and contend for none until
  "consul-vip undrain". What nobody else can take it keeps, until somebody can.
  Waits until it has given away all the others. It stays drained when it is
  started anew, and a node can be drained before its instance is there: all of
  it is a key, whose value does not matter, so this does the same:

    consul kv put consul-vip/.drain/h1

  Without -node it is the node of the Consul agent that is asked. If its
  configuration has a node_name, give that.

  Needs write access to that key, and read access to the others; without -node
  also to the agent.

  Exit codes: 0 the node has no address any more, 1 it still has some, 2 usage.
  It stays drained in either case.`, f.FlagSet)
}

func (c *drainCommand) Run(args []string) int {
	f, node := nodeFlags("drain", c.stderr)
	if err := f.parse(args); err != nil {
		return exitCode(err)
	}
	if err := f.noArguments(); err != nil {
		return report(c.stderr, err)
	}
	return report(c.stderr, f.operate(func(ctx context.Context, o *lease.Operator) error {
		node, err := nodeOrLocal(ctx, o, *node)
		if err != nil {
			return err
		}
		drained, err := o.Drain(ctx, node)
		if err != nil && !errors.Is(err, lease.ErrPending) {
			return err
		}
		for _, out := range drained.Moved {
			fmt.Fprintln(c.stdout, change(out))
		}
		undo := f.hint("undrain", "-node="+node)
		switch {
		case err != nil:
			return fmt.Errorf("%w; it stays drained until %s", err, undo)
		case len(drained.Kept) > 0:
			return fmt.Errorf("%s keeps %s; what somebody comes to take it gives away, until %s", node, kept(drained.Kept), undo)
		case !drained.Member:
			fmt.Fprintf(c.stdout, "There is no instance %s now; there are: %s\n", node, cmp.Or(strings.Join(drained.Others, ", "), "none"))
		}
		_, err = fmt.Fprintf(c.stdout, "%s takes no address until %s\n", node, undo)
		return err
	}))
}

// kept tells which addresses a node keeps and why.
func kept(list []lease.Kept) string {
	var texts []string
	for _, k := range list {
		texts = append(texts, fmt.Sprintf("%s (%s)", k.VIP, k.Why))
	}
	return strings.Join(texts, ", ")
}
