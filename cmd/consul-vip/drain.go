package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/consul-vip/consul-vip/lease/operator"
)

type drainCommand struct{ stdout, stderr io.Writer }

func (*drainCommand) Synopsis() string { return "Move all addresses off a node" }

func (c *drainCommand) Help() string {
	f, _ := nodeFlags("drain", nil)
	return help("drain [-node=NODE] [options]", `
  Tells a node to transfer all its addresses to other nodes, and to contend for
  none until "consul-vip undrain". The node keeps an address that no other node
  can take until one can. The command waits until the node has transferred all
  other addresses. The node stays drained when its instance restarts, and you
  can drain a node before its instance starts: the drain is a key, whose value
  does not matter. This command does the same:

    consul kv put consul-vip/.drain/h1

  Without -node it drains the node of the local Consul agent. If the
  configuration of the instance sets node_name, give that name with -node.

  It needs write access to that key, and read access to the other keys and,
  without -node, to the agent.

  Exit codes: 0 the node holds no address any more, 1 it still holds some, or
  failure, 2 usage. A node that still holds some stays drained.`, f.FlagSet)
}

func (c *drainCommand) Run(args []string) int {
	f, node := nodeFlags("drain", c.stderr)
	if err := f.parse(args); err != nil {
		return exitCode(err)
	}
	if err := f.noArguments(); err != nil {
		return report(c.stderr, err)
	}
	return report(c.stderr, f.operate(func(ctx context.Context, o *operator.Operator) error {
		node, err := nodeOrLocal(ctx, o, *node)
		if err != nil {
			return err
		}
		return c.drain(ctx, o, node, f.hint("undrain", "-node="+node))
	}))
}

// drain drains a node and prints the addresses that have moved. undo is the
// command line that ends the drain. The error is not nil if the node still holds
// an address.
func (c *drainCommand) drain(ctx context.Context, o *operator.Operator, node, undo string) error {
	drained, err := o.Drain(ctx, node)
	if err != nil && !errors.Is(err, operator.ErrPending) {
		return err
	}
	for _, out := range drained.Moved {
		fmt.Fprintln(c.stdout, transition(out))
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w; it stays drained until %s", err, undo)
	case len(drained.Kept) > 0:
		return fmt.Errorf("%s keeps %s; it transfers each as soon as another node can take it, until %s", node, kept(drained.Kept), undo)
	case !drained.Member && !drained.Filtered:
		fmt.Fprintf(c.stdout, "There is no instance %s now; there are: %s\n", node, cmp.Or(strings.Join(drained.Others, ", "), "none"))
	}
	_, err = fmt.Fprintf(c.stdout, "%s takes no address until %s\n", node, undo)
	return err
}

// kept lists the addresses that a node keeps, each with the reason.
func kept(list []operator.Kept) string {
	var texts []string
	for _, k := range list {
		texts = append(texts, fmt.Sprintf("%s (%s)", k.VIP, k.Why))
	}
	return strings.Join(texts, ", ")
}
