package main

import (
	"fmt"
	"io"
	"os"

	"github.com/consul-vip/consul-vip/config"
)

type validateCommand struct{ stdout, stderr io.Writer }

func (*validateCommand) Synopsis() string { return "Check configuration files" }

func (*validateCommand) Help() string {
	return help("validate [FILE|DIR ...]", `
  Checks the files together with the variables CONSUL_VIP_... of the environment,
  as the agent does when it starts, and prints every problem with its position.
  Without a file it checks the environment alone. It contacts neither Consul nor
  the network.

  Exit codes: 0 valid, 2 usage, 3 at least one problem.`, nil)
}

func (c *validateCommand) Run(args []string) int {
	fs := flagSet("validate", c.stderr)
	if err := parse(fs, args); err != nil {
		return exitCode(err)
	}
	if fs.NArg() == 0 && !addressesInEnvironment() {
		return report(c.stderr, usageError("validate needs a file or directory, or addresses in "+config.VIPsVariable))
	}
	cfg, err := config.Load(os.Environ(), fs.Args()...)
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
