package main

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

type agentCommand struct{ stderr io.Writer }

func (*agentCommand) Synopsis() string { return "Contend for the configured addresses and serve them" }

func (c *agentCommand) Help() string {
	fs, _, _ := c.flags(nil)
	return help("agent -config=FILE|DIR [-config=FILE|DIR ...] [options]", `
  Contends for the lock of every configured address; while it holds one, it
  has the address bound and announced. Runs until it is stopped by SIGTERM or
  SIGINT, or until a lost lock, a lost session or an address conflict ends it
  for the scheduler to start it again.

  SIGHUP reads the configuration again and changes what has changed, SIGUSR1
  and SIGUSR2 raise and lower the priority for as long as the agent runs.

  Exit codes: 0 stopped, 1 failure, 2 usage, 3 configuration, 4 lock, session
  or address lost, 5 address conflict.`, fs)
}

func (c *agentCommand) flags(out io.Writer) (*flag.FlagSet, *paths, *consulFlags) {
	var (
		fs     = flagSet("agent", out)
		files  paths
		consul consulFlags
	)
	fs.Var(&files, "config", "configuration `file`, or directory of *.hcl files; may be repeated")
	consul.register(fs)
	return fs, &files, &consul
}

func (c *agentCommand) Run(args []string) int {
	wishes, ignore := catchWishes()
	defer ignore()
	fs, files, consul := c.flags(c.stderr)
	if err := parse(fs, args); err != nil {
		return exitCode(err)
	}
	if len(*files) == 0 {
		return report(c.stderr, usageError("agent needs -config=FILE|DIR"))
	}
	if fs.NArg() > 0 {
		return report(c.stderr, usageError(fmt.Sprintf("agent takes no arguments, got %q", strings.Join(fs.Args(), " "))))
	}
	cfg, err := config.Load(*files...)
	if err != nil {
		return report(c.stderr, err)
	}
	log := hclog.New(&hclog.LoggerOptions{
		Level:           cfg.LogLevel,
		JSONFormat:      cfg.LogJSON,
		Output:          c.stderr,
		IncludeLocation: false,
	})
	client, tokenChanged, err := consul.connect(cfg.Consul.Address, cfg.Consul.TokenFile, lease.MaxConns, log)
	if err != nil {
		return report(c.stderr, err)
	}

	ctx, stop := stoppedBySignal()
	defer stop()
	log.Info("consul-vip starts", "version", buildVersion(), "vips", len(cfg.VIPs))
	err = agent.Run(ctx, agent.Options{
		Config:       cfg,
		Client:       client,
		TokenChanged: tokenChanged,
		Version:      buildVersion(),
		Logger:       log,
		Reload:       wishes.configs(ctx, func() (*config.Config, error) { return config.Load(*files...) }, log),
		Priority:     wishes.priorities(ctx),
	})
	if err != nil {
		log.Error("consul-vip ends", "reason", err, "exit_code", exitCode(err))
	}
	return exitCode(err)
}
