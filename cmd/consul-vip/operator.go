package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

// defaultTimeout bounds what a command waits for.
const defaultTimeout = 15 * time.Second

// operatorFlags are what the commands have in common that only talk to Consul.
type operatorFlags struct {
	*flag.FlagSet
	prefix  string
	timeout time.Duration
	consul  consulFlags

	args []string // those that are no flags
}

func newOperatorFlags(name string, out io.Writer) *operatorFlags {
	f := &operatorFlags{FlagSet: flagSet(name, out)}
	f.StringVar(&f.prefix, "prefix", config.DefaultPrefix, "KV `prefix` of the instances' configuration")
	f.DurationVar(&f.timeout, "timeout", defaultTimeout, "how long to wait at most, a `duration` such as 30s")
	f.consul.register(f.FlagSet)
	return f
}

// parse takes flags before and after the arguments.
func (f *operatorFlags) parse(args []string) error {
	for {
		if err := parse(f.FlagSet, args); err != nil {
			return err
		}
		if f.NArg() == 0 {
			return nil
		}
		f.args = append(f.args, f.Arg(0))
		args = f.Args()[1:]
	}
}

// noArguments objects to any.
func (f *operatorFlags) noArguments() error {
	if len(f.args) > 0 {
		return usageError(fmt.Sprintf("%s takes no arguments, got %q", f.command(), strings.Join(f.args, " ")))
	}
	return nil
}

// address is the one argument, as the keys have it.
func (f *operatorFlags) address() (string, error) {
	if len(f.args) != 1 {
		return "", usageError(fmt.Sprintf("%s needs one address, got %q", f.command(), strings.Join(f.args, " ")))
	}
	addr, err := netip.ParseAddr(f.args[0])
	if err != nil {
		return "", usageError(fmt.Sprintf("%q is no IP address", f.args[0]))
	}
	return addr.Unmap().String(), nil
}

// command is the name of the command.
func (f *operatorFlags) command() string { return strings.TrimPrefix(f.Name(), "consul-vip ") }

// hint is how to call another command about the same instances.
func (f *operatorFlags) hint(command, argument string) string {
	if f.prefix != config.DefaultPrefix {
		command += " -prefix=" + f.prefix
	}
	return fmt.Sprintf("`consul-vip %s %s`", command, argument)
}

func (f *operatorFlags) operator() (*lease.Operator, error) {
	client, err := f.consul.client("", "", lease.MaxConns)
	if err != nil {
		return nil, err
	}
	return lease.NewOperator(client, f.prefix), nil
}

// operate has do done within the timeout, or until a signal comes.
func (f *operatorFlags) operate(do func(context.Context, *lease.Operator) error) error {
	o, err := f.operator()
	if err != nil {
		return err
	}
	ctx, stop := untilStopSignal()
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("waited for %s", f.timeout))
	defer cancel()
	return do(ctx, o)
}
