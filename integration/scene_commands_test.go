package integration

// The commands of consul-vip and their output.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// took matches the time that a command prints.
const took = `[\d.]+ m?s`

// result is how a command of consul-vip ended.
type result struct {
	code           int
	stdout, stderr string
}

// command runs a command of consul-vip about the scene on a host.
func (s *scene) command(h *lab.Host, args ...string) result {
	s.t.Helper()
	out, err := h.Run(s.t.Context(), lab.Command{Args: append([]string{s.ConsulVIP}, append(args, "-prefix="+s.name)...)})
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return result{exit.ExitCode(), string(out), err.Error()}
	}
	s.NoError(err)
	return result{stdout: string(out)}
}

// succeed runs a command that must succeed and returns what it printed.
func (s *scene) succeed(h *lab.Host, args ...string) string {
	s.t.Helper()
	r := s.command(h, args...)
	s.Zero(r.code, "exit code of %q: %s", args, r.stderr)
	s.t.Logf("%q: %s", args, r.stdout)
	return r.stdout
}

// fail runs a command that must fail and returns how it ended.
func (s *scene) fail(h *lab.Host, args ...string) result {
	s.t.Helper()
	r := s.command(h, args...)
	s.Equal(1, r.code, "exit code of %q: %s", args, r.stdout)
	s.t.Logf("%q: %s", args, r.stderr)
	return r
}

// row is an address as "consul-vip status -json" prints it.
type row map[string]any

// text returns a field, "" if it is null or missing.
func (r row) text(field string) string {
	text, _ := r[field].(string)
	return text
}

// status returns the row that "consul-vip status" prints for the address.
func (s *scene) status(h *lab.Host) (r row) {
	s.t.Helper()
	s.retry("status on "+h.Name, func() (err error) {
		r, err = s.statusRow(h)
		return err
	})
	return r
}

// statusRow is status without repetition, for conditions.
func (s *scene) statusRow(h *lab.Host) (row, error) {
	got := s.command(h, "status", "-json") // exits with 1 if an address has no owner
	var rows []row
	if err := json.Unmarshal([]byte(got.stdout), &rows); err != nil {
		return nil, fmt.Errorf("%w: %s", err, got.stderr)
	}
	for _, r := range rows {
		if r.text("vip") == s.vip.String() {
			return r, nil
		}
	}
	return nil, fmt.Errorf("no row for %s: %s", s.vip, got.stdout)
}

// statusIs is met when "consul-vip status" shows the address in this state.
func (s *scene) statusIs(h *lab.Host, state string) condition {
	return condition{fmt.Sprintf("status to show %s as %s", s.vip, state), func() error {
		r, err := s.statusRow(h)
		if err == nil && r.text("state") != state {
			err = fmt.Errorf("%v", r)
		}
		return err
	}}
}
