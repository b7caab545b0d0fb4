package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/localstatus"
)

// checkLocal returns a usageError for flags that do not go together.
func (f *statusFlags) checkLocal() error {
	switch {
	case f.local && f.watch:
		return usageError("-local does not go with -watch; try watch -n1 consul-vip status -local")
	case !f.local && given(f.FlagSet, "socket"):
		return usageError("-socket needs -local")
	}
	return nil
}

// local prints what the agent of this host tells of itself.
func (c *statusCommand) local(f *statusFlags) error {
	ctx, stop := untilStopSignal()
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("timed out after %s", f.timeout))
	defer cancel()
	status, err := localstatus.Get(ctx, f.socket)
	switch {
	case errors.Is(err, localstatus.ErrNoAgent):
		return fmt.Errorf("%w: start the agent, with socket = %q in its configuration and with that directory, or name its socket by -socket", err, f.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run this as root or as the agent's user", err)
	case err != nil:
		return err
	}
	if f.json {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(status)
	}
	_, err = c.stdout.Write(localTables(status, time.Now()))
	return err
}
