package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// flagSet returns an empty set of flags for a command. The flag package accepts
// one dash or two.
func flagSet(name string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("consul-vip "+name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "For usage see consul-vip %s --help\n", name)
	}
	return fs
}

// parse parses args. It returns mistakes as a usageError, which the flag package
// has already printed.
func parse(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return usageError(err.Error())
}

// given reports whether a flag is on the command line.
func given(fs *flag.FlagSet, name string) (given bool) {
	fs.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// noArguments returns a usageError if there is an argument.
func noArguments(fs *flag.FlagSet, args []string) error {
	if len(args) > 0 {
		return usageError(fmt.Sprintf("%s takes no arguments, got %q", command(fs), strings.Join(args, " ")))
	}
	return nil
}

// command is the name of the command that has the flags, such as "move".
func command(fs *flag.FlagSet) string { return strings.TrimPrefix(fs.Name(), "consul-vip ") }

// paths are the values of a flag that may be given several times.
type paths []string

func (p *paths) String() string     { return strings.Join(*p, " ") }
func (p *paths) Set(s string) error { *p = append(*p, s); return nil }

// seconds is the value of a flag: a duration such as 500ms, or a number of seconds.
type seconds time.Duration

func (s seconds) String() string { return time.Duration(s).String() }

func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		if n, numberErr := strconv.ParseUint(text, 10, 32); numberErr == nil {
			d, err = time.Duration(n)*time.Second, nil
		}
	}
	switch {
	case err != nil:
		return errors.New("it is no duration such as 10s")
	case d < 0:
		return errors.New("it is less than 0")
	}
	*s = seconds(d)
	return nil
}
