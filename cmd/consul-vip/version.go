package main

import (
	"fmt"
	"io"
	"runtime"
)

type versionCommand struct{ stdout, stderr io.Writer }

func (*versionCommand) Synopsis() string { return "Print the version" }

func (*versionCommand) Help() string { return help("version", "\n  Prints the version.", nil) }

func (c *versionCommand) Run(args []string) int {
	if err := parse(flagSet("version", c.stderr), args); err != nil {
		return exitCode(err)
	}
	fmt.Fprintf(c.stdout, "consul-vip %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}
