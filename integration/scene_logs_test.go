package integration

// The logs of the instances and of Consul.

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// logged returns the log lines with this message.
func logged(p *lab.Process, message string) (found []lab.Entry) {
	for _, e := range p.Entries() {
		if e.Message() == message {
			found = append(found, e)
		}
	}
	return found
}

// logs is met when a process has logged this message so many times.
func logs(p *lab.Process, message string, times int) condition {
	return condition{fmt.Sprintf("%s to log %q %d times", p.Host.Name, message, times), func() error {
		if n := len(logged(p, message)); n != times {
			return fmt.Errorf("%d", n)
		}
		return nil
	}}
}

// mentions is met when a message of a process contains a text.
func mentions(p *lab.Process, text string) condition {
	return condition{fmt.Sprintf("%s to log %q", p.Host.Name, text), func() error {
		if mentioned(p, text) == 0 {
			return errors.New("nothing of it")
		}
		return nil
	}}
}

// mentioned counts the messages of a process that contain a text.
func mentioned(p *lab.Process, text string) (n int) {
	for _, e := range p.Entries() {
		if strings.Contains(e.Message(), text) {
			n++
		}
	}
	return n
}

// outputs is met when a process has written a text.
func outputs(p *lab.Process, text string) condition {
	return condition{fmt.Sprintf("%s to write %q", p.Host.Name, text), func() error {
		if !strings.Contains(p.String(), text) {
			return errors.New("nothing of it")
		}
		return nil
	}}
}

// inState is met when the last state that a process logged of each address is this.
func inState(p *lab.Process, want string) condition {
	return condition{fmt.Sprintf("all addresses of %s in state %s", p.Host.Name, want), func() error {
		if !p.Running() {
			return errors.New("the process has ended")
		}
		states := make(map[string]string)
		for _, e := range logged(p, "state changed") {
			states[e.Get("vip")] = e.Get("state")
		}
		for vip, state := range states {
			if state != want {
				return fmt.Errorf("%s in state %s", vip, state)
			}
		}
		if len(states) == 0 {
			return errors.New("no state yet")
		}
		return nil
	}}
}

// logsOfConsul adds the warnings, errors and elections of every Consul agent, from now
// on, to the report.
func (s *scene) logsOfConsul() {
	since := time.Now()
	for _, a := range s.Cluster.All() {
		s.logs = append(s.logs, func() string {
			text, err := os.ReadFile(a.Host.ConsulLog())
			if err != nil {
				return err.Error()
			}
			return fmt.Sprintf("log of Consul on %s:\n%s", a.Host.Name, troubles(string(text), since))
		})
	}
}

// troubles returns the lines of a Consul log since then that are warnings, errors or
// about the leader.
func troubles(text string, since time.Time) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		stamp, message, _ := strings.Cut(line, " ")
		at, err := time.Parse("2006-01-02T15:04:05.000Z0700", stamp)
		matters := strings.Contains(message, "[WARN]") || strings.Contains(message, "[ERROR]") || strings.Contains(message, "leader")
		if err == nil && at.After(since) && matters {
			found.WriteString(line)
		}
	}
	return found.String()
}
