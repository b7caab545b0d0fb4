// Command bench runs consul-vip, keepalived and "consul lock" with a script
// through the same failures, on three hosts in network namespaces with a real
// Consul, and prints what a client and an observer on the segment saw of each.
//
// Progress goes to standard error, the report in Markdown to standard output
// and to the file that -out names. It exits with 0 if every repetition could be
// measured, whatever the figures are, with 1 if not, and with 130 if it was
// interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell would say it
)

// options are the command line.
type options struct {
	bin  string
	n    int
	only *regexp.Regexp
	out  string
	logs string
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", os.Getenv("CONSUL_VIP_BIN"), "the consul-vip `binary` to measure (default: built now, as bin/consul-vip)")
	flag.IntVar(&o.n, "n", 5, "repetitions of each")
	only := flag.String("only", "", "run only what this regular `expression` matches, in \"PROGRAM/FAILURE\" such as \"consul-vip/planned stop\"")
	flag.StringVar(&o.out, "out", "", "write the report to this `file` too")
	flag.StringVar(&o.logs, "logs", "", "keep all logs and configurations in this new `directory`")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil || o.n < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: -n takes a positive number, -only a regular expression; nothing else is taken:", err)
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "\nInterrupted. Everything that was started has been stopped; nothing was written.")
		os.Exit(exitInterrupted)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(exitFailed)
	}
}

func run(ctx context.Context, o options) (err error) {
	provided, err := lab.Prepare(ctx, o.bin, os.Stderr)
	if err != nil {
		return err
	}
	p, err := findPrograms(provided.Consul, provided.ConsulVIP)
	if err != nil {
		return err
	}
	if err := o.makeLogs(); err != nil {
		return err
	}
	s, err := newStage(ctx, p, o.logs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r := s.runAll(ctx, plan(o))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return publish(ctx, s, o, r)
}

// makeLogs makes the directory for the logs, where they're wanted. It must be a
// new one: Consul would go on with the data of another run.
func (o *options) makeLogs() (err error) {
	if o.logs == "" {
		return nil
	}
	if o.logs, err = filepath.Abs(o.logs); err != nil {
		return err
	}
	return os.Mkdir(o.logs, 0o755)
}

// publish prints the report, and writes it where it's wanted.
func publish(ctx context.Context, s *stage, o options, r results) error {
	m, err := describe(ctx, s.programs)
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
