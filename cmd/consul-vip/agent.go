package main

import (
	"flag"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease/consul"
)

type agentCommand struct{ stderr io.Writer }

func (*agentCommand) Synopsis() string { return "Contend for the configured addresses and serve them" }

func (c *agentCommand) Help() string {
	fs, _, _ := c.flags(nil)
	return help("agent [-config=FILE|DIR ...] [options]", `
  Contends for the lock of every configured address. While it holds the lock of
  an address, it binds and announces that address. It runs until SIGTERM or
  SIGINT stops it. A lost lock, session or address, or an address conflict, also
  ends it, and the scheduler must then start it again.

  The variables CONSUL_VIP_... of the environment set the keys that the files
  leave out: CONSUL_VIP_LOG_LEVEL, CONSUL_VIP_CONSUL_PREFIX, and for every
  address CONSUL_VIP_VIP_PRIORITY and others. With a list of addresses in
  CONSUL_VIP_VIPS no file is needed.

  SIGHUP reloads the configuration and applies the changes. SIGUSR1 raises the
  priority of every address on this node by one step, SIGUSR2 lowers it by one
  step, until the agent stops.

  Exit codes: 0 stopped, 1 failure, 2 usage, 3 configuration, 4 lock, session
  or address lost, 5 address conflict.`, fs)
}

func (c *agentCommand) flags(out io.Writer) (*flag.FlagSet, *paths, *consul.Flags) {
	var (
		fs    = flagSet("agent", out)
		files paths
		flags consul.Flags
	)
	fs.Var(&files, "config", "configuration `file`, or a directory with *.hcl files; may be repeated")
	flags.Register(fs)
	return fs, &files, &flags
}

func (c *agentCommand) Run(args []string) int {
	caught, restore := catchSignals()
	defer restore()
	fs, files, flags := c.flags(c.stderr)
	if err := parse(fs, args); err != nil {
		return exitCode(err)
	}
	if len(*files) == 0 && !addressesInEnvironment() {
		return report(c.stderr, usageError("agent needs -config=FILE|DIR, or addresses in "+config.VIPsVariable))
	}
	if err := noArguments(fs, fs.Args()); err != nil {
		return report(c.stderr, err)
	}
	cfg, err := config.Load(os.Environ(), *files...)
	if err != nil {
		return report(c.stderr, err)
	}
	log := newLogger(cfg, c.stderr)
	client, err := flags.Connect(cfg.Consul.Address, cfg.Consul.TokenFile, log)
	if err != nil {
		return report(c.stderr, err)
	}
	services, err := flags.ConnectBeside(cfg.Consul.Address, cfg.Consul.TokenFile, hclog.NewNullLogger())
	if err != nil {
		return report(c.stderr, err)
	}
	defer services.Close()
	return serve(*files, caught, agent.Options{
		Config:      cfg,
		Client:      client,
		Services:    services,
		ServicesACL: consul.NewACLChecker(services, log.Named("health"), nil),
		Version:     buildVersion(),
		Logger:      log,
	})
}

// addressesInEnvironment reports whether a configuration needs no file.
func addressesInEnvironment() bool { return os.Getenv(config.VIPsVariable) != "" }

func newLogger(cfg *config.Config, out io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Level:      cfg.LogLevel,
		JSONFormat: cfg.LogJSON,
		Output:     out,
	})
}

// serve runs the agent until a signal or a failure ends it, and returns the exit
// code. It passes the caught signals on to the agent; SIGHUP reads files again.
func serve(files []string, caught signals, o agent.Options) int {
	ctx, stop := untilStopSignal()
	defer stop()
	o.Logger.Info("consul-vip started", "version", o.Version, "vips", len(o.Config.VIPs))
	load := func() (*config.Config, error) { return config.Load(os.Environ(), files...) }
	reload, stopReload := caught.configs(ctx, load, o.Logger)
	defer stopReload()
	priority, stopPriority := caught.priorities(ctx)
	defer stopPriority()
	o.Reload, o.Priority = reload, priority
	err := agent.Run(ctx, o)
	if err != nil {
		o.Logger.Error("consul-vip stopped", "reason", err, "exit_code", exitCode(err))
	}
	return exitCode(err)
}
