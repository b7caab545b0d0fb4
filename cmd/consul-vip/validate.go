package main

import (
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/config"
)

type validateCommand struct{ stdout, stderr io.Writer }

func (*validateCommand) Synopsis() string { return "Check configuration files" }

func (*validateCommand) Help() string {
	return help("validate FILE|DIR ...", `
  Checks the files as the agent would, all together, and prints every problem
  with its place. Exits with 3 if there is one. Asks neither Consul nor the
  network.`, nil)
}

func (c *validateCommand) Run(args []string) int {
	fs := flagSet("validate", c.stderr)
	if err := parse(fs, args); err != nil {
		return exitCode(err)
	}
	if fs.NArg() == 0 {
		return report(c.stderr, usageError("validate needs a file or directory"))
	}
	cfg, err := config.Load(fs.Args()...)
	if err != nil {
		return report(c.stderr, err)
	}
	fmt.Fprintf(c.stdout, "The configuration is valid: %s.\n", count(len(cfg.VIPs), "VIP"))
	return exitOK
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
