package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/lease/operator"
)

type moveCommand struct{ stdout, stderr io.Writer }

func (*moveCommand) Synopsis() string { return "Move an address to another node" }

func (c *moveCommand) Help() string {
	f, _ := c.flags(nil)
	return help("move ADDRESS [-to=NODE] [options]", `
  Pins an address to a node and waits until that node holds it. The owner
  transfers the address while it still serves it. Without -to the address moves
  to the best placed of the other nodes. No other address moves.

  The pin stays: no other node takes the address, even if this node stops, until
  "consul-vip unpin ADDRESS". The pin is the key PREFIX/ADDRESS/pin, and its
  value is the name of the node. This command does the same:

    consul kv put consul-vip/10.77.0.100/pin h2

  It needs write access to that key, and read access to the other keys.

  Exit codes: 0 moved, 1 not moved, 2 usage. Nothing is written if the node does
  not contend for the address, is drained, or already holds it. If the timeout
  expires, the pin stays.`, f.FlagSet)
}

func (c *moveCommand) flags(out io.Writer) (*operatorFlags, *string) {
	f := newOperatorFlags("move", out)
	return f, f.String("to", "", "`node` to move the address to")
}

func (c *moveCommand) Run(args []string) int {
	f, to := c.flags(c.stderr)
	if err := f.parse(args); err != nil {
		return exitCode(err)
	}
	vip, err := f.address()
	if err != nil {
		return report(c.stderr, err)
	}
	return report(c.stderr, f.operate(func(ctx context.Context, o *operator.Operator) error {
		out, err := o.Move(ctx, vip, *to)
		switch {
		case errors.Is(err, operator.ErrPending):
			return fmt.Errorf("%w; it stays pinned to %s until %s", err, out.Node, f.hint("unpin", vip))
		case err != nil:
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "%s, pinned there until %s\n", transition(out), f.hint("unpin", vip))
		return err
	}))
}
