package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
)

// statusTimeout bounds a whole status.
const statusTimeout = 15 * time.Second

type statusCommand struct{ stdout, stderr io.Writer }

func (*statusCommand) Synopsis() string { return "Show who holds each address" }

type statusFlags struct {
	json   bool
	prefix string
	consul consulFlags
}

func (c *statusCommand) Help() string {
	fs, _ := c.flags(nil)
	return help("status [-json] [options]", `
  Shows for every address below the prefix who holds its lock: the node with
  its interface, MAC and since when, another program such as consul lock, or
  nobody. Asks Consul only, so it runs anywhere, and needs no more than read
  access to the keys and sessions.`, fs)
}

func (c *statusCommand) flags(out io.Writer) (*flag.FlagSet, *statusFlags) {
	fs, f := flagSet("status", out), &statusFlags{}
	fs.BoolVar(&f.json, "json", false, "print JSON")
	fs.StringVar(&f.prefix, "prefix", config.DefaultPrefix, "KV `prefix` of the instances' configuration")
	f.consul.register(fs)
	return fs, f
}

func (c *statusCommand) Run(args []string) int {
	fs, f := c.flags(c.stderr)
	if err := parse(fs, args); err != nil {
		return exitCode(err)
	}
	if fs.NArg() > 0 {
		return fail(c.stderr, usageError(fmt.Sprintf("status takes no arguments, got %q", fs.Arg(0))))
	}
	client, err := f.consul.client("", "", lease.MaxConns)
	if err != nil {
		return fail(c.stderr, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	locks, err := lease.List(ctx, client, f.prefix)
	if err != nil {
		return fail(c.stderr, err)
	}
	if f.json {
		err = printJSON(c.stdout, locks)
	} else {
		err = printTable(c.stdout, locks, f.prefix)
	}
	return fail(c.stderr, err)
}

func printJSON(w io.Writer, locks []lease.Status) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(locks)
}

func printTable(w io.Writer, locks []lease.Status, prefix string) error {
	if len(locks) == 0 {
		_, err := fmt.Fprintf(w, "No addresses below %s/ in Consul's KV store.\n", prefix)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VIP\tSTATE\tNODE\tINTERFACE\tMAC\tSINCE\tSESSION\tNOTE")
	for _, l := range locks {
		since := ""
		if l.Since != nil {
			since = l.Since.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.VIP, l.State,
			dash(l.Node), dash(l.Interface), dash(l.MAC), dash(since), dash(l.Session), l.Note)
	}
	return t.Flush()
}

func dash(s string) string { return cmp.Or(s, "-") }
