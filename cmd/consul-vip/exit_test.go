package main

import (
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	"github.com/consul-vip/consul-vip/lease/consul"
)

func TestExitCode(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("outer: %w", err) }
	for err, code := range map[error]int{
		nil:                          exitOK,
		flag.ErrHelp:                 exitOK,
		errors.New("other"):          exitFailure,
		wrap(usageError("wrong")):    exitUsage,
		wrap(consul.ErrDatacenter):   exitUsage,
		wrap(&config.Error{}):        exitConfig,
		wrap(lease.ErrLockLost):      exitLost,
		wrap(lease.ErrSessionLost):   exitLost,
		wrap(agent.ErrAddressLost):   exitLost,
		wrap(&agent.ConflictError{}): exitConflict,
		// The conflict counts: the second error only explains why the agent did not
		// defend the address.
		errors.Join(&agent.ConflictError{}, errors.New("no answer")): exitConflict,
	} {
		assert.Equal(t, code, exitCode(err), "%v", err)
	}
}
