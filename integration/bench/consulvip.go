package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// consulVIP is the program of this repository, in its default configuration except for
// the host check.
type consulVIP struct {
	hostCheck string // the content of the block; "": the default
	ipv6      bool   // the addresses are IPv6 ones
}

func (c consulVIP) name() string {
	switch c {
	case quickCheck:
		return "consul-vip 10ms"
	case overIPv6:
		return "consul-vip IPv6"
	}
	return "consul-vip"
}
func (consulVIP) needsConsul() bool       { return true }
func (consulVIP) killsAll() bool          { return true }
func (consulVIP) oldKeepsAnswering() bool { return false }
func (consulVIP) elects() bool            { return false }
func (consulVIP) lockKey(e *entry) string { return lab.DefaultKeys.Lock(e.addr) }

func (c consulVIP) command(e *entry, h *lab.Host, _ int) (lab.Command, error) {
	// The benchmark reads the log, so it is JSON.
	text := []byte("log_json = true\n")
	if c.hostCheck != "" {
		text = fmt.Appendf(text, "host_check {\n  %s\n}\n", strings.ReplaceAll(c.hostCheck, "  ", "\n  "))
	}
	var require string
	if e.scenario.service {
		if err := os.WriteFile(alive(h), nil, 0o644); err != nil {
			return lab.Command{}, err
		}
		text = fmt.Appendf(text, "check \"service\" {\n  command  = [\"test\", \"-e\", %q]\n  interval = \"100ms\"\n  timeout  = \"90ms\"\n  rise     = 1\n  fall     = 1\n}\n", alive(h))
		require = "\n  require = [\"service\"]\n"
	}
	for _, addr := range e.addrs {
		text = fmt.Appendf(text, "vip %q {%s}\n", addr, require)
	}
	file, err := h.WriteFile("consul-vip.hcl", text)
	return e.AgentCommand(file), err
}

// ready looks at the logged state, and at the key by which others know the member.
func (consulVIP) ready(e *entry, p *lab.Process, rank int) error {
	want := "standby"
	if rank == 0 {
		want = "active"
	}
	states := p.States()
	for _, addr := range e.addrs {
		if got := states[addr.String()]; got != want {
			return fmt.Errorf("consul-vip on %s is in state %q for %s, not %q", p.Host.Name, got, addr, want)
		}
	}
	member, _, err := e.Cluster.Of(p.Host).API.KV().Get(lab.DefaultKeys.Member(p.Host.Name), nil)
	if err != nil {
		return err
	}
	if member == nil || member.Session == "" {
		return errors.New("consul-vip on " + p.Host.Name + " is no member yet")
	}
	return nil
}

// handover is when the steps of a planned handover were logged, as times since the
// signal. The zero value means that there was none.
type handover struct {
	transferred time.Duration // the old owner: Consul has committed the transfer of the lock
	released    time.Duration // the old owner: the address is unbound and released is sent
	acquired    time.Duration // the successor: it knows that it holds the lock
	active      time.Duration // the successor: the address is bound
}

// handoverOf reads the steps from the logs of the old owner and the successor.
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
		transferred: after(old, func(e lab.Entry) bool { return e.Message() == "lock transferred" }),
		released:    after(old, state("releasing")),
		acquired:    after(next, state("acquired")),
		active:      after(next, state("active")),
	}
}
