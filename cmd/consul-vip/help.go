package main

import (
	"bytes"
	"flag"
	"strings"
)

// help returns the help text of a command: its usage, its description and its
// flags. fs may be nil.
func help(usage, text string, fs *flag.FlagSet) string {
	var b strings.Builder
	b.WriteString("Usage: consul-vip " + usage + "\n" + text + "\n")
	if fs != nil {
		var flags bytes.Buffer
		fs.SetOutput(&flags)
		fs.PrintDefaults()
		b.WriteString("\nOptions:\n\n" + flags.String())
	}
	return strings.TrimRight(b.String(), "\n")
}
