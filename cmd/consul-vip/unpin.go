package main

import (
	"context"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/lease/operator"
)

type unpinCommand struct{ stdout, stderr io.Writer }

func (*unpinCommand) Synopsis() string { return "Let any node take an address again" }

func (c *unpinCommand) Help() string {
	return help("unpin ADDRESS [options]", `
  Deletes the pin that "move" or "release -hold" has written. The owner keeps the
  address. If the address has no owner and a node can take it, the command waits
  until a node has taken it. This command does the same:

    consul kv delete consul-vip/10.77.0.100/pin

  It needs write access to that key, and read access to the other keys.

  Exit codes: 0 no longer pinned, 1 failure, or no node took the address in time,
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
	return report(c.stderr, f.operate(func(ctx context.Context, o *operator.Operator) error {
		pin, out, err := o.Unpin(ctx, vip)
		switch {
		case err != nil && pin != "":
			return fmt.Errorf("it is no longer pinned, but %w", err)
		case err != nil:
			return err
		case pin == "":
			_, err = fmt.Fprintf(c.stdout, "%s was not pinned; %s\n", vip, ownership(out))
		default:
			_, err = fmt.Fprintf(c.stdout, "%s, no longer pinned\n", transition(out))
		}
		return err
	}))
}
