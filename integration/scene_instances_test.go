package integration

// Instances of consul-vip: their configuration, start and stop.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// The configuration of every instance, unless a test changes it.
const (
	sessionTTL = 10 * time.Second         // the least that Consul accepts
	holdTime   = sessionTTL - time.Second // from a renewal to the hold deadline
	// The check is shorter than the default, so that the tests of a crash are.
	checkTTL = "3s"
	deadMan  = 5 * time.Second // the least for this check
	// longDeadMan is the longest dead_man that sessionTTL allows. An owner that gets no
	// CPU for a quarter of a second extends the address only after Consul has confirmed
	// the lock. If a test keeps Consul from doing so, the long lifetime makes the hold
	// deadline come first.
	longDeadMan = 8 * time.Second

	// stopTime is how long a stop takes at most, whatever Consul does.
	stopTime = 4 * time.Second
)

// config holds the changes that a test makes to the configuration.
type config struct {
	sessionTTL time.Duration // 0: sessionTTL
	deadMan    time.Duration // 0: deadMan
	consul     string        // more lines for the consul block; check_ttl if not here: checkTTL
	env        []string      // of the process
	vip        string        // more lines for every vip block
}

// hcl is a configuration in which all addresses are alike.
func (s *scene) hcl(c config) string {
	text := s.head(c)
	for _, vip := range s.vips {
		text += block(vip, fmt.Sprintf("dead_man = %q", cmp.Or(c.deadMan, deadMan)), c.vip)
	}
	return text
}

// head is a configuration without addresses.
func (s *scene) head(c config) string {
	if !strings.Contains(c.consul, "check_ttl") {
		c.consul += fmt.Sprintf("\n  check_ttl = %q", checkTTL)
	}
	return fmt.Sprintf("log_level = \"debug\"\nlog_json = true\n"+
		"consul {\n  prefix = %q\n  service = %q\n  session_ttl = %q\n%s\n}\n", s.name, s.name, cmp.Or(c.sessionTTL, sessionTTL), c.consul)
}

// block is the part of a configuration that is about one address.
func block(vip netip.Addr, lines ...string) string {
	return fmt.Sprintf("vip %q {\n%s\n}\n", vip, strings.Join(lines, "\n"))
}

// configure writes the configuration file of a host and returns its name.
func (s *scene) configure(h *lab.Host, hcl string) string {
	s.t.Helper()
	file := filepath.Join(h.Dir, s.name+".hcl")
	s.NoError(os.WriteFile(file, []byte(hcl), 0o644))
	return file
}

// start starts an instance on a host.
func (s *scene) start(h *lab.Host, c config) *lab.Process {
	s.t.Helper()
	return s.startFrom(h, s.configure(h, s.hcl(c)), c.env...)
}

// startFrom starts an instance on a host from a configuration file.
func (s *scene) startFrom(h *lab.Host, file string, env ...string) *lab.Process {
	s.t.Helper()
	return s.startAs(h, lab.Command{Args: []string{s.ConsulVIP, "agent", "-config=" + file}, Env: env})
}

// startAs starts an instance on a host by a command.
func (s *scene) startAs(h *lab.Host, c lab.Command) *lab.Process {
	s.t.Helper()
	p, err := h.Start(c)
	s.NoError(err)
	s.instances = append(s.instances, p)
	s.logOf("consul-vip", p)
	return p
}

// startAll starts an instance on every host, as startOn does.
func (s *scene) startAll(c config) []*lab.Process {
	s.t.Helper()
	return s.startOn(c, s.Servers...)
}

// startOn starts an instance on each of some hosts. The first one is the owner: the
// others are started when it owns the address, and then stand by.
func (s *scene) startOn(c config, hosts ...*lab.Host) []*lab.Process {
	s.t.Helper()
	owner := s.start(hosts[0], c)
	s.await(inState(owner, "active"))
	s.await(s.memberOn(hosts[0]))
	procs := []*lab.Process{owner}
	for _, h := range hosts[1:] {
		procs = append(procs, s.startStandby(h, c))
	}
	s.await(s.ownedBy(hosts[0]))
	s.restartClient()
	s.await(s.ownedBy(hosts[0]))
	return procs
}

// startStandby starts an instance on a host and waits until it stands by.
func (s *scene) startStandby(h *lab.Host, c config) *lab.Process {
	s.t.Helper()
	p := s.start(h, c)
	s.await(inState(p, "standby"))
	s.await(s.memberOn(h))
	return p
}

// signal sends a signal to a process.
func (s *scene) signal(p *lab.Process, signal os.Signal) {
	s.t.Helper()
	s.NoError(p.Signal(signal))
}

// freeze stops all threads of a process.
func (s *scene) freeze(p *lab.Process) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	s.NoError(p.Freeze(ctx))
}

// stop stops an instance as planned.
func (s *scene) stop(p *lab.Process) {
	s.t.Helper()
	s.signal(p, syscall.SIGTERM)
	s.exits(p, 0, stopTime+slack)
}

// instanceOn returns the instance that was started last on a host.
func (s *scene) instanceOn(h *lab.Host) *lab.Process {
	s.t.Helper()
	for _, p := range slices.Backward(s.instances) {
		if p.Host == h {
			return p
		}
	}
	s.FailNow("expected an instance on " + h.Name + ", saw none")
	return nil
}

// ended is met when a process has ended.
func ended(p *lab.Process) condition {
	return condition{fmt.Sprintf("the process on %s to end", p.Host.Name), func() error {
		if p.Running() {
			return errors.New("it still runs")
		}
		return nil
	}}
}
