// Command consul-vip keeps floating IP addresses on the nodes of a Consul
// cluster: the node that holds an address's lock in Consul binds and announces
// the address.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program without its process: tests call it. It returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	c := &cli.CLI{
		Name:       "consul-vip",
		Version:    versionLine(),
		Args:       args,
		HelpFunc:   cli.BasicHelpFunc("consul-vip"),
		HelpWriter: stdout,
		// A usage error must not look like requested help.
		ErrorWriter: stderr,
		Commands:    commands(stdout, stderr),
	}
	if name := c.Subcommand(); name != "" && c.Commands[name] == nil {
		return report(stderr, usageError(fmt.Sprintf("there is no command %q; see consul-vip --help", name)))
	}
	code, err := c.Run()
	switch {
	case err != nil:
		return report(stderr, err)
	case code == noCommand:
		return exitUsage
	}
	return code
}

// noCommand is the exit code that the cli package returns if args name no command.
const noCommand = 127

func commands(stdout, stderr io.Writer) map[string]cli.CommandFactory {
	factories := map[string]cli.CommandFactory{}
	for name, command := range map[string]cli.Command{
		"agent":    &agentCommand{stderr: stderr},
		"validate": &validateCommand{stdout: stdout, stderr: stderr},
		"status":   &statusCommand{stdout: stdout, stderr: stderr},
		"move":     &moveCommand{stdout: stdout, stderr: stderr},
		"unpin":    &unpinCommand{stdout: stdout, stderr: stderr},
		"release":  &releaseCommand{stdout: stdout, stderr: stderr},
		"drain":    &drainCommand{stdout: stdout, stderr: stderr},
		"undrain":  &undrainCommand{stdout: stdout, stderr: stderr},
		"probe":    &probeCommand{stdout: stdout, stderr: stderr},
		"announce": &announceCommand{stderr: stderr},
		"version":  &versionCommand{stdout: stdout, stderr: stderr},
	} {
		factories[name] = func() (cli.Command, error) { return command, nil }
	}
	return factories
}
