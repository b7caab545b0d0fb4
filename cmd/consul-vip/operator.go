package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/operator"
)

const defaultTimeout = 15 * time.Second

// operatorFlags are the flags and arguments of a command that only talks to
// Consul: status, and the commands by which an operator controls the instances.
type operatorFlags struct {
	*flag.FlagSet
	prefix  string
	timeout time.Duration
	consul  consul.Flags

	settings    config.Consul // of the environment
	settingsErr error

	args []string // the arguments that are not flags
}

func newOperatorFlags(name string, out io.Writer) *operatorFlags {
	f := &operatorFlags{FlagSet: flagSet(name, out)}
	f.settings, f.settingsErr = config.LoadConsul(os.Environ())
	f.StringVar(&f.prefix, "prefix", f.settings.Prefix, "KV `prefix`, as in the configuration of the instances")
	f.DurationVar(&f.timeout, "timeout", defaultTimeout, "maximum time to wait, a `duration` such as 30s")
	f.consul.Register(f.FlagSet)
	return f
}

// parse accepts flags before and after the arguments. The flag package would
// stop at the first argument.
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

// noArguments returns a usageError if there is an argument.
func (f *operatorFlags) noArguments() error { return noArguments(f.FlagSet, f.args) }

// address returns the only argument, an IP address, in the form that the keys use.
func (f *operatorFlags) address() (string, error) {
	if len(f.args) != 1 {
		return "", usageError(fmt.Sprintf("%s needs one address, got %q", command(f.FlagSet), strings.Join(f.args, " ")))
	}
	addr, err := netip.ParseAddr(f.args[0])
	if err != nil {
		return "", usageError(fmt.Sprintf("%q is not an IP address", f.args[0]))
	}
	return addr.Unmap().String(), nil
}

// hint is a command line that the user can enter next, for the same prefix.
func (f *operatorFlags) hint(command, argument string) string {
	if f.prefix != config.DefaultPrefix {
		command += " -prefix=" + f.prefix
	}
	return fmt.Sprintf("`consul-vip %s %s`", command, argument)
}

// operator returns an Operator for the Consul agent that flags or the environment name.
func (f *operatorFlags) operator() (*operator.Operator, error) {
	if f.settingsErr != nil {
		return nil, f.settingsErr
	}
	return f.newOperator(f.settings.Address, f.settings.TokenFile)
}

// newOperator returns an Operator for a Consul agent and a token as the configuration names
// them, unless flags say otherwise.
func (f *operatorFlags) newOperator(address, tokenFile string) (*operator.Operator, error) {
	client, err := f.consul.Connect(address, tokenFile, hclog.NewNullLogger())
	if err != nil {
		return nil, err
	}
	return operator.New(client, f.prefix), nil
}

// operate calls do with a context that ends after the timeout, or when SIGTERM or
// SIGINT arrives.
func (f *operatorFlags) operate(do func(context.Context, *operator.Operator) error) error {
	o, err := f.operator()
	if err != nil {
		return err
	}
	ctx, stop := untilStopSignal()
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("timed out after %s", f.timeout))
	defer cancel()
	return do(ctx, o)
}
