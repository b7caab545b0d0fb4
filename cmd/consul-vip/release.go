package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

type releaseCommand struct{ stdout, stderr io.Writer }

func (*releaseCommand) Synopsis() string { return "Ask the owner of an address to release it" }

func (c *releaseCommand) Help() string {
	f, _ := c.flags(nil)
	return help("release ADDRESS [-hold] [options]", `
  Asks the owner of an address to release it, once, and waits until it has. The
  owner transfers the address to the best placed of the other nodes. If no other
  node can take it, the owner unbinds it, and takes it again after 10 s unless
  another node has. No other address moves. The request is the key
  PREFIX/ADDRESS/release, and its value is the name of the owner, which deletes
  the key. This command does the same:

    consul kv put consul-vip/10.77.0.100/release h1

  With -hold no node takes the address afterwards, until "consul-vip unpin
  ADDRESS". This command does the same, with the pin "-":

    consul kv put consul-vip/10.77.0.100/pin -

  To use the address yourself, under another program's lock:

    consul-vip release -hold 10.77.0.100
    consul lock consul-vip/10.77.0.100 COMMAND
    consul-vip unpin 10.77.0.100

  A "consul lock" that is already waiting gets the lock as soon as it is free.

  It needs write access to these keys, and read access to the other keys.

  Exit codes: 0 released, 1 not released, 2 usage. If the timeout expires, the
  command withdraws a request that the owner has not accepted, but the pin of
  -hold stays.`, f.FlagSet)
}

func (c *releaseCommand) flags(out io.Writer) (*operatorFlags, *bool) {
	f := newOperatorFlags("release", out)
	return f, f.Bool("hold", false, "let no node take it until \"consul-vip unpin\"")
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
	return report(c.stderr, f.operate(func(ctx context.Context, o *operator.Operator) error {
		out, err := o.Release(ctx, vip)
		if err != nil {
			return err
		}
		text := transition(out)
		if out.State == state.StatusFree {
			text += fmt.Sprintf("; no other node can take it, so %s takes it again after 10 s", out.From)
		}
		_, err = fmt.Fprintln(c.stdout, text)
		return err
	}))
}

// withhold is "release -hold".
func (c *releaseCommand) withhold(f *operatorFlags, vip string) error {
	return f.operate(func(ctx context.Context, o *operator.Operator) error {
		out, err := o.Withhold(ctx, vip)
		switch {
		case errors.Is(err, operator.ErrPending):
			return fmt.Errorf("%w; it stays pinned to nobody until %s", err, f.hint("unpin", vip))
		case err != nil:
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "%s, and no node takes it until %s\n", transition(out), f.hint("unpin", vip))
		return err
	})
}
