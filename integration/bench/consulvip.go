package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// consulVIP is the program of this repository, in its default configuration.
type consulVIP struct{}

func (consulVIP) name() string            { return "consul-vip" }
func (consulVIP) needsConsul() bool       { return true }
func (consulVIP) killsAll() bool          { return true }
func (consulVIP) oldKeepsAnswering() bool { return false }
func (consulVIP) elects() bool            { return false }

func (consulVIP) command(e *entry, h *lab.Host, _ int) (lab.Command, error) {
	dir := filepath.Join(h.Dir, "consul-vip.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return lab.Command{}, err
	}
	// JSON so that the bench can read the log; the rest is the default.
	text := fmt.Sprintf("log_json = true\nvip %q {}\n", e.addr)
	if err := os.WriteFile(filepath.Join(dir, "vip.hcl"), []byte(text), 0o644); err != nil {
		return lab.Command{}, err
	}
	return lab.Command{Args: []string{e.programs.consulVIP, "agent", "-config=" + dir}}, nil
}

// ready wants the state by the log, and everybody known to everybody.
func (consulVIP) ready(e *entry, p *lab.Process, rank int) error {
	want := "standby"
	if rank == 0 {
		want = "active"
	}
	if got := stateOf(p); got != want {
		return fmt.Errorf("consul-vip on %s is in state %q, not %q", p.Host.Name, got, want)
	}
	member, _, err := e.cluster.Of(p.Host).API.KV().Get("consul-vip/.members/"+p.Host.Name, nil)
	if err != nil {
		return err
	}
	if member == nil || member.Session == "" {
		return errors.New("consul-vip on " + p.Host.Name + " is no member yet")
	}
	return nil
}

// stateOf returns the state that the log shows last.
func stateOf(p *lab.Process) string {
	state := ""
	for _, e := range p.Entries() {
		if e.Message() == "state changed" {
			state = e.Get("state")
		}
	}
	return state
}

// reaction returns how long after a foreign frame the address was unbound, by
// the log, or 0 if it doesn't say.
func reaction(p *lab.Process) time.Duration {
	for _, e := range p.Entries() {
		if d, err := time.ParseDuration(e.Get("reaction")); err == nil {
			return d
		}
	}
	return 0
}

// handover is when a planned handover's steps were logged, as times since the
// signal. The zero value is none.
type handover struct {
	handedOver time.Duration // the old owner: the commit is done
	released   time.Duration // the old owner: the address is unbound, the successor told
	acquired   time.Duration // the successor: sees that it has the lock
	active     time.Duration // the successor: the address is bound
}

// handoverOf reads the steps from both logs.
func handoverOf(signal time.Time, old, next *lab.Process) handover {
	after := func(p *lab.Process, match func(lab.Entry) bool) time.Duration {
		for _, line := range p.Entries() {
			if line.Time().After(signal) && match(line) {
				return line.Time().Sub(signal)
			}
		}
		return 0
	}
	state := func(want string) func(lab.Entry) bool {
		return func(e lab.Entry) bool { return e.Message() == "state changed" && e.Get("state") == want }
	}
	return handover{
		handedOver: after(old, func(e lab.Entry) bool { return e.Message() == "handed over" }),
		released:   after(old, state("releasing")),
		acquired:   after(next, state("acquired")),
		active:     after(next, state("active")),
	}
}
