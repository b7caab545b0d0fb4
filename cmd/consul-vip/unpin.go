package main

import (
	"context"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/lease"
)

type unpinCommand struct{ stdout, stderr io.Writer }

func (*unpinCommand) Synopsis() string { return "Let any node have an address again" }

func (c *unpinCommand) Help() string {
	return help("unpin ADDRESS [options]", `
  Deletes the pin that "move" or "release -hold" has left. Who has the address
  keeps it. Where nobody has it, it waits until a node has taken it, if one is
  there. This does the same:

    consul kv delete consul-vip/10.77.0.100/pin

  Needs write access to that key, and read access to the others.

  Exit codes: 0 not pinned any more, 1 failure, or nobody took it in time,
  2 usage.`, newOperatorFlags("unpin", nil).FlagSet)
}

func (c *unpinCommand) Run(args []string) int {
	f := newOperatorFlags("unpin", c.stderr)
	if err := f.parse(args); err != nil {
		return exitCode(err)
	}
	vip, err := f.address()
	if err != nil {
		return report(c.stderr, err)
	}
	return report(c.stderr, f.operate(func(ctx context.Context, o *lease.Operator) error {
		pin, out, err := o.Unpin(ctx, vip)
		switch {
		case err != nil && pin != "":
			return fmt.Errorf("it is no longer pinned, but %w", err)
		case err != nil:
			return err
		case pin == "":
			_, err = fmt.Fprintf(c.stdout, "%s was not pinned; %s has it\n", vip, who(out))
		default:
			_, err = fmt.Fprintf(c.stdout, "%s, no longer pinned\n", change(out))
		}
		return err
	}))
}
