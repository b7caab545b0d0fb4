package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker when a release is built.
var version = ""

type versionCommand struct{ stdout, stderr io.Writer }

func (*versionCommand) Synopsis() string { return "Print the version" }

func (*versionCommand) Help() string { return help("version", "\n  Prints the version.", nil) }

func (c *versionCommand) Run(args []string) int {
	if err := parse(flagSet("version", c.stderr), args); err != nil {
		return exitCode(err)
	}
	fmt.Fprintln(c.stdout, versionLine())
	return exitOK
}

func versionLine() string {
	return fmt.Sprintf("consul-vip %s %s %s/%s", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion is the version of the release, or, if `go install` built the
// program, the version of the module.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
