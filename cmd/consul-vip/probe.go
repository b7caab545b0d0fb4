package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/capability"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/probe"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease/operator"
	"github.com/consul-vip/consul-vip/lease/state"
)

const (
	// looks is how often an address with a problem is looked at again, lookPause apart: it
	// may just be moving.
	looks     = 3
	lookPause = time.Second
)

type probeCommand struct{ stdout, stderr io.Writer }

func (*probeCommand) Synopsis() string {
	return "Ask the network who has an address, and compare with Consul"
}

func (c *probeCommand) Help() string {
	return help("probe [ADDRESS ...] [-config=FILE|DIR ...] [-prefix=PREFIX] [options]", `
  Asks on the network who has each ADDRESS, and shows all stations that answer, with
  their MACs and how fast they are. It claims nothing, and does not need Consul.

  With -config or -prefix it asks for every address that is configured, or that the
  instances with this prefix know, and holds the answers against what Consul says.
  Then ADDRESSes restrict it to these. Without any of them it takes the addresses of
  CONSUL_VIP_VIPS as the configured ones. It shows, for each address:

    two owners                         several hosts answer
    another owner than the record      another host answers than Consul names
    bound here without the lock        this host has the address, and should not
    answered without a lock            a host answers, but none has the lock
    silence                            nobody answers, although a node has the lock
    no owner                           nobody answers, and no node has the lock
    owner not known                    the token may not read the key
    wrong neighbor entry               this host sends packets to the wrong MAC

  An address with a problem is looked at three times, a second apart: it may just be
  moving. Only CAP_NET_RAW is needed.

  Exit codes: 0 every address has one owner, and Consul's, 1 nobody answers, another
  problem, or failure, 2 usage, 3 configuration, 5 an address has several owners.`, c.flags(nil).FlagSet)
}

type probeFlags struct {
	*operatorFlags
	files  paths
	iface  string
	json   bool
	tries  int
	window seconds
}

func (c *probeCommand) flags(out io.Writer) *probeFlags {
	f := &probeFlags{operatorFlags: newOperatorFlags("probe", out), window: seconds(100 * time.Millisecond)}
	f.Var(&f.files, "config", "compare the addresses of this configuration `file`, or of a directory's *.hcl files, with Consul; may be repeated")
	f.StringVar(&f.iface, "interface", "", "`name` of the interface to ask on (default: the one in whose subnet the address is)")
	f.BoolVar(&f.json, "json", false, "print JSON")
	f.IntVar(&f.tries, "tries", 3, "`number` of questions to everybody")
	f.Var(&f.window, "window", "`duration` that an answer to each question may take")
	return f
}

func (c *probeCommand) Run(args []string) int {
	f := c.flags(c.stderr)
	if err := f.parse(args); err != nil {
		return exitCode(err)
	}
	return report(c.stderr, c.probe(f))
}

// errSeveral means that an address has more than one owner.
var errSeveral = errors.New("several owners")

// probe asks for the addresses that the flags name and prints the results.
func (c *probeCommand) probe(f *probeFlags) error {
	s, err := f.survey()
	if err != nil {
		return err
	}
	if err := capability.Check(capability.NetRaw); err != nil {
		return err
	}
	asker, err := probe.NewAsker(f.tries, time.Duration(f.window), hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer asker.Close()
	ctx, stop := untilStopSignal()
	defer stop()
	results, err := s.run(ctx, asker)
	if err != nil {
		return err
	}
	if len(results) == 0 && !f.json {
		_, err := fmt.Fprintf(c.stdout, "No address below %s/ to ask the network for.\n", f.prefix)
		return err
	}
	if err := showProbe(c.stdout, f.json, s.operator != nil, results); err != nil {
		return err
	}
	return verdict(results)
}

// verdict is an error that names the addresses with problems.
func verdict(results []probe.Result) error {
	several := false
	var all []error
	for _, r := range results {
		for _, p := range r.Problems {
			all = append(all, fmt.Errorf("%s: %s", r.Addr, p))
		}
		several = several || r.Several()
	}
	switch {
	case several:
		return fmt.Errorf("%w: %w", errSeveral, errors.Join(all...))
	case all == nil:
		return nil
	}
	return errors.Join(all...)
}

// survey is what to ask for, and what to compare it with.
type survey struct {
	targets  []probe.Target // nil: all addresses that Consul knows
	only     []netip.Addr   // of the targets; nil: all
	iface    string
	operator *operator.Operator // nil: there is nothing to compare with
	timeout  time.Duration
}

// survey checks the flags.
func (f *probeFlags) survey() (*survey, error) {
	s := &survey{iface: f.iface, timeout: f.timeout}
	switch {
	case f.tries <= 0:
		return nil, usageError(fmt.Sprintf("-tries: %d is not more than 0", f.tries))
	case f.window <= 0:
		return nil, usageError("-window: 0s is not more than 0")
	}
	for _, text := range f.args {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" || addr.IsMulticast() || addr.IsUnspecified() || addr.IsLoopback() {
			return nil, usageError(fmt.Sprintf("%q is not the IP address of a host", text))
		}
		s.only = append(s.only, addr.Unmap())
	}
	switch {
	case len(f.files) > 0:
		return s, f.configured(s)
	case given(f.FlagSet, "prefix"):
		o, err := f.operator()
		s.operator = o
		return s, err
	case len(s.only) == 0 && addressesInEnvironment():
		return s, f.configured(s)
	case len(s.only) == 0:
		return nil, usageError("probe needs an ADDRESS, -config or -prefix")
	}
	for _, addr := range s.only {
		s.targets = append(s.targets, probe.Target{Addr: addr, Interface: f.iface})
	}
	return s, nil
}

// configured completes a survey from the configuration.
func (f *probeFlags) configured(s *survey) error {
	if given(f.FlagSet, "prefix") {
		return usageError("-prefix: -config names it already")
	}
	cfg, err := config.Load(os.Environ(), f.files...)
	if err != nil {
		return err
	}
	s.targets = []probe.Target{}
	for _, v := range cfg.VIPs {
		if v.Unbound {
			continue // no host has it
		}
		t := probe.Target{Addr: v.Addr(), Interface: v.Interface}
		if f.iface != "" {
			t.Interface = f.iface
		}
		s.targets = append(s.targets, t)
	}
	f.prefix = cfg.Consul.Prefix
	s.operator, err = f.newOperator(cfg.Consul.Address, cfg.Consul.TokenFile)
	return err
}

// run asks for all targets, and again for those with problems.
func (s *survey) run(ctx context.Context, a *probe.Asker) ([]probe.Result, error) {
	targets, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	results, err := s.look(ctx, a, targets)
	for try := 1; try < looks && s.operator != nil && err == nil; try++ {
		var again []probe.Target
		for _, r := range results {
			if len(r.Problems) > 0 {
				again = append(again, r.Target)
			}
		}
		if again == nil {
			break
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		var second []probe.Result
		second, err = s.look(ctx, a, again)
		for _, r := range second {
			i := slices.IndexFunc(results, func(before probe.Result) bool { return before.Addr == r.Addr })
			results[i] = r
		}
	}
	return results, err
}

// all are the targets, without those that the command line leaves out.
func (s *survey) all(ctx context.Context) (targets []probe.Target, err error) {
	all := s.targets
	if all == nil {
		keys, err := s.state(ctx)
		if err != nil {
			return nil, err
		}
		all = s.known(keys)
	}
	if s.only == nil {
		return all, nil
	}
	for _, addr := range s.only {
		i := slices.IndexFunc(all, func(t probe.Target) bool { return t.Addr == addr })
		if i < 0 {
			return nil, usageError(fmt.Sprintf("%s is not among the addresses that are configured or known", addr))
		}
		targets = append(targets, all[i])
	}
	return targets, nil
}

// look asks once. Consul is read after the network was asked: an address that has moved
// meanwhile has the newer record, and is looked at again.
func (s *survey) look(ctx context.Context, a *probe.Asker, targets []probe.Target) (results []probe.Result, err error) {
	if s.operator == nil {
		for _, f := range a.Ask(ctx, targets) {
			results = append(results, probe.Alone(f))
		}
		return results, s.usable(ctx, results)
	}
	found := a.Ask(ctx, targets)
	now, err := s.state(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		results = append(results, probe.Judge(f, now))
	}
	return results, s.usable(ctx, results)
}

// usable is an error if the answers tell nothing.
func (s *survey) usable(ctx context.Context, results []probe.Result) error {
	for _, r := range results {
		if s.iface != "" && probe.ErrInterface(r.Err) {
			return usageError(fmt.Sprintf("-interface: %v", r.Err))
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// state reads Consul.
func (s *survey) state(ctx context.Context) (*state.State, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("timed out after %s", s.timeout))
	defer cancel()
	return s.operator.State(ctx)
}

// known are the addresses that Consul knows, except those that their owners have not bound,
// and therefore tell no interface for.
func (s *survey) known(keys *state.State) (targets []probe.Target) {
	for _, name := range keys.Names() {
		if _, node := keys.Owner(name); node != "" && agent.DecodeOwner(keys.Locks[name].Record.Owner).Interface == "" {
			continue
		}
		if addr, err := netip.ParseAddr(name); err == nil {
			targets = append(targets, probe.Target{Addr: addr, Interface: s.iface})
		}
	}
	return targets
}
