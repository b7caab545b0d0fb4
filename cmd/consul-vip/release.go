package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/lease"
)

type releaseCommand struct{ stdout, stderr io.Writer }

func (*releaseCommand) Synopsis() string { return "Have the owner of an address give it up" }

func (c *releaseCommand) Help() string {
	f, _ := c.flags(nil)
	return help("release ADDRESS [-hold] [options]", `
  Asks the node that has an address to give it up, once, and waits until it
  has: it hands the address to the best placed of the others. Where nobody else
  is there it lets go, and takes the address again after 10 s if nobody else
  has. No other address moves. The request is the key PREFIX/ADDRESS/release
  with the name of the owner, which deletes it, so this does the same:

    consul kv put consul-vip/10.77.0.100/release h1

  With -hold no node has the address afterwards, until "consul-vip unpin
  ADDRESS". That is the pin "-":

    consul kv put consul-vip/10.77.0.100/pin -

  To have the address to yourself, with another program's lock:

    consul-vip release -hold 10.77.0.100
    consul lock consul-vip/10.77.0.100 COMMAND
    consul-vip unpin 10.77.0.100

  A "consul lock" that waits already gets the lock as soon as it is free.

  Needs write access to these keys, and read access to the others.

  Exit codes: 0 given up, 1 not given up, 2 usage. If the time is up, a request
  that nobody has taken up is taken back, but the pin of -hold stays.`, f.FlagSet)
}

func (c *releaseCommand) flags(out io.Writer) (*operatorFlags, *bool) {
	f := newOperatorFlags("release", out)
	return f, f.Bool("hold", false, "let no node have it until \"consul-vip unpin\"")
}

func (c *releaseCommand) Run(args []string) int {
	f, hold := c.flags(c.stderr)
	if err := f.parse(args); err != nil {
		return exitCode(err)
	}
	vip, err := f.address()
	if err != nil {
		return report(c.stderr, err)
	}
	if *hold {
		return report(c.stderr, c.withhold(f, vip))
	}
	return report(c.stderr, f.operate(func(ctx context.Context, o *lease.Operator) error {
		out, err := o.Release(ctx, vip)
		if err != nil {
			return err
		}
		text := change(out)
		if out.State == lease.StatusFree {
			text += fmt.Sprintf("; nobody else can take it, so %s does after 10 s", out.From)
		}
		_, err = fmt.Fprintln(c.stdout, text)
		return err
	}))
}

func (c *releaseCommand) withhold(f *operatorFlags, vip string) error {
	return f.operate(func(ctx context.Context, o *lease.Operator) error {
		out, err := o.Withhold(ctx, vip)
		switch {
		case errors.Is(err, lease.ErrPending):
			return fmt.Errorf("%w; it stays pinned to nobody until %s", err, f.hint("unpin", vip))
		case err != nil:
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "%s, and no node takes it until %s\n", change(out), f.hint("unpin", vip))
		return err
	})
}
