package main

import (
	"bytes"
	"flag"
	"strings"
)

// help lays out a command's help: its usage, what it does, and its flags.
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
