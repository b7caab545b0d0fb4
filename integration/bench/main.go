// Command bench runs consul-vip, keepalived and "consul lock" with a script through
// the same failures, on three hosts in network namespaces with a real Consul, whose
// agents there are clients and then servers, and prints what a client and an observer on
// the segment saw of each.
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
	bin    string
	worlds []lab.World
	n      int
	only   *regexp.Regexp
	out    string
	logs   string
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
	o.worlds = lab.Worlds
	flag.Func("world", "how Consul runs: \"clients\" on the hosts, its servers elsewhere and on a network of their own,\nor \"servers\" on the hosts and one network (default: both, one after the other)", func(name string) error {
		o.worlds = make([]lab.World, 1)
		return o.worlds[0].Set(name)
	})
	flag.IntVar(&o.n, "n", 10, "repetitions of each failure with consul-vip; half as many with the other programs")
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
	m, err := describe(ctx, provided, p)
	if err != nil {
		return err
	}
	var all []worldResults
	for _, w := range o.worlds {
		r, err := o.runWorld(ctx, w, provided, p)
		if err != nil {
			return err
		}
		if len(all) > 0 {
			r.adopt(all[0].results)
		}
		all = append(all, worldResults{w, r})
	}
	return publish(m, o, all)
}

// runWorld measures all that is planned in a world.
func (o options) runWorld(ctx context.Context, w lab.World, provided lab.Programs, p programs) (r results, err error) {
	c := lab.Config{Programs: provided, Cluster: w.Cluster()}
	if o.logs != "" {
		c.Dir = filepath.Join(o.logs, w.String())
	}
	b, err := newBenchLab(ctx, c, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r = b.runAll(ctx, plan(o, w))
	return r, context.Cause(ctx)
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
func publish(m machine, o options, all []worldResults) error {
	text := report(m, o, all)
	fmt.Print(text)
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil {
			return err
		}
	}
	failed := 0
	for _, w := range all {
		failed += w.failed()
	}
	if failed > 0 {
		return fmt.Errorf("%d repetitions could not be measured", failed)
	}
	return nil
}
