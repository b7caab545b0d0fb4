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
		Commands: map[string]cli.CommandFactory{
			"agent":    func() (cli.Command, error) { return &agentCommand{stderr: stderr}, nil },
			"validate": func() (cli.Command, error) { return &validateCommand{stdout: stdout, stderr: stderr}, nil },
			"status":   func() (cli.Command, error) { return &statusCommand{stdout: stdout, stderr: stderr}, nil },
			"version":  func() (cli.Command, error) { return &versionCommand{stdout: stdout, stderr: stderr}, nil },
		},
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
