package main

import (
	"context"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/lease/operator"
)

type undrainCommand struct{ stdout, stderr io.Writer }

func (*undrainCommand) Synopsis() string { return "Let a node take addresses again" }

func (c *undrainCommand) Help() string {
	f, _ := nodeFlags("undrain", nil)
	return help("undrain [-node=NODE] [options]", `
  Ends a drain: the node contends for its addresses again. The current owners
  keep the addresses, unless their configuration sets "preempt". This command
  does the same:

    consul kv delete consul-vip/.drain/h1

  It needs write access to that key, and read access to the other keys and,
  without -node, to the agent.

  Exit codes: 0 no longer drained, 1 failure, 2 usage.`, f.FlagSet)
}

func (c *undrainCommand) Run(args []string) int {
	f, node := nodeFlags("undrain", c.stderr)
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
		was, err := o.Undrain(ctx, node)
		if err != nil {
			return err
		}
		text := "%s may take addresses again\n"
		if !was {
			text = "%s was not drained\n"
		}
		_, err = fmt.Fprintf(c.stdout, text, node)
		return err
	}))
}
