package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/hashicorp/cli"
)

// version is set when a release is built.
var version = ""

// run is the whole program but for the process it runs in.
func run(args []string, stdout, stderr io.Writer) int {
	c := &cli.CLI{
		Name:       "consul-vip",
		Version:    versionLine(),
		Args:       args,
		HelpFunc:   cli.BasicHelpFunc("consul-vip"),
		HelpWriter: stdout,
		// Errors of usage must not look like help that was asked for.
		ErrorWriter: stderr,
		Commands:    commands(stdout, stderr),
	}
	if name := c.Subcommand(); name != "" && c.Commands[name] == nil {
		return fail(stderr, usageError(fmt.Sprintf("there is no command %q; consul-vip --help lists them", name)))
	}
	code, err := c.Run()
	switch {
	case err != nil:
		return fail(stderr, err)
	case code == noCommand:
		return exitUsage
	}
	return code
}

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
		"version":  &versionCommand{stdout: stdout, stderr: stderr},
	} {
		factories[name] = func() (cli.Command, error) { return command, nil }
	}
	return factories
}

// noCommand is what the library returns where there was none to run.
const noCommand = 127

// buildVersion is the release's version, or the module's where it was built
// by `go install`.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
