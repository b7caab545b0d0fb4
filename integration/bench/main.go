// Command bench runs consul-vip, keepalived and "consul lock" with a script through
// the same failures, on three hosts in network namespaces with a real Consul, whose
// agents there are clients or servers, and prints what a client and an observer on the segment saw of each.
//
// Progress goes to standard error, the report in Markdown to standard output and to
// the file that -out names. It exits with 0 if every repetition could be measured,
// with 1 if not, and with 130 if it was interrupted, whatever the figures are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// options are the command line.
type options struct {
	bin   string
	world lab.World
	n     int
	only  *regexp.Regexp
	out   string
	logs  string
}

func main() {
	o, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(lab.ExitUsage)
	}
	os.Exit(lab.Main("bench", func(ctx context.Context) error { return run(ctx, o) }))
}

// parse reads the command line.
func parse() (o options, err error) {
	flag.StringVar(&o.bin, "bin", lab.Binary(), "the consul-vip `binary` to measure (default: built now, as bin/consul-vip)")
	o.world = lab.Clients
	flag.Var(&o.world, "world", "how Consul runs: \"clients\" on the hosts, its servers elsewhere and on a network of their own,\nor \"servers\" on the hosts and one network")
	flag.IntVar(&o.n, "n", 5, "repetitions of each")
	only := flag.String("only", "", "run only what this regular `expression` matches, in \"PROGRAM/FAILURE\" such as \"consul-vip/planned stop\"")
	flag.StringVar(&o.out, "out", "", "write the report to this `file` too")
	flag.StringVar(&o.logs, "logs", "", "keep all logs and configurations in this new `directory`")
	flag.Parse()
	switch o.only, err = regexp.Compile(*only); {
	case err != nil:
		return o, fmt.Errorf("-only: %w", err)
	case o.n < 1:
		return o, errors.New("-n must be positive")
	case flag.NArg() > 0:
		return o, fmt.Errorf("unexpected arguments: %q", flag.Args())
	}
	return o, nil
}

// run measures all that is planned and publishes the report.
func run(ctx context.Context, o options) (err error) {
	provided, err := lab.Prepare(ctx, o.bin, os.Stderr)
	if err != nil {
		return err
	}
	p, err := findPrograms()
	if err != nil {
		return err
	}
	if err := o.makeLogs(); err != nil {
		return err
	}
	b, err := newBenchLab(ctx, lab.Config{Programs: provided, Dir: o.logs, Cluster: o.world.Cluster()}, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r := b.runAll(ctx, plan(o))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return publish(ctx, b, o, r)
}

// makeLogs makes the directory for the logs, if they are to be kept. The directory
// must be new: Consul would go on with the data of another run.
func (o *options) makeLogs() (err error) {
	if o.logs == "" {
		return nil
	}
	if o.logs, err = filepath.Abs(o.logs); err != nil {
		return err
	}
	return os.Mkdir(o.logs, 0o755)
}

// publish prints the report and writes it to the file, if there is to be one.
func publish(ctx context.Context, b *benchLab, o options, r results) error {
	m, err := describe(ctx, b)
	if err != nil {
		return err
	}
	text := report(m, o, r)
	fmt.Print(text)
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if failed := r.failed(); failed > 0 {
		return fmt.Errorf("%d repetitions could not be measured", failed)
	}
	return nil
}
