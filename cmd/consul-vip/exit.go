package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/announce"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/lease/consul"
)

// The exit codes tell a scheduler or a script why the program exited.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitConfig   = 3
	exitLost     = 4
	exitConflict = 5
)

// usageError is a mistake in the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// exitCode is the exit code of a command that returned err.
func exitCode(err error) int {
	var (
		usage usageError
		cfg   *config.Error
	)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &usage), errors.Is(err, consul.ErrDatacenter):
		return exitUsage
	case errors.As(err, &cfg):
		return exitConfig
	case errors.Is(err, agent.ErrConflict), errors.Is(err, announce.ErrConflict), errors.Is(err, errSeveral):
		return exitConflict
	case errors.Is(err, lease.ErrLockLost), errors.Is(err, lease.ErrSessionLost), errors.Is(err, agent.ErrAddressLost):
		return exitLost
	}
	return exitFailure
}

// report prints err, unless it is nil or a request for help, and returns its
// exit code.
func report(stderr io.Writer, err error) int {
	code := exitCode(err)
	if code != exitOK {
		fmt.Fprintf(stderr, "consul-vip: %v\n", err)
	}
	return code
}
