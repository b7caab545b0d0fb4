package integration

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// restartsEnv is how often TestAgentRestart restarts the agent in each way.
	restartsEnv = "INTEGRATION_RESTARTS"
	// agentDown is how long the agent does not run.
	agentDown = 3 * time.Second
	// defaultCheckTTL is the default of check_ttl, and defaultDeadMan that of dead_man. The
	// agent may be away for as long as the check lasts, from its end to when it answers.
	defaultCheckTTL = 5 * time.Second
	defaultDeadMan  = 7 * time.Second
)

// byDefault has the defaults of an operator instead of the shorter times of the tests.
var byDefault = config{deadMan: defaultDeadMan, consul: fmt.Sprintf("  check_ttl = %q", defaultCheckTTL)}

// TestAgentRestart ends the client agent of the owner's host and starts it again three
// seconds later. That is within the default check_ttl, and nothing moves. Both ways run at
// the same time, each with an owner on a host of its own. They share the host of the
// standby, whose agent keeps running.
func TestAgentRestart(t *testing.T) {
	for i, way := range []struct {
		name string
		end  func(*lab.ConsulAgent) error
	}{
		{"SIGKILL", (*lab.ConsulAgent).Kill},
		{"SIGTERM", func(a *lab.ConsulAgent) error {
			ctx, cancel := context.WithTimeout(context.Background(), soon)
			defer cancel()
			return a.Stop(ctx)
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := newClientsScene(t)
			procs := s.startOn(byDefault, s.Servers[i], s.Servers[2])
			tenure := s.tenure(procs[0])
			for i := range numberOf(t, restartsEnv, 2) {
				away := s.restartAgent(procs[0].Host, way.end)
				t.Logf("restart %d: the agent was away for %v", i+1, away)
				if away > defaultCheckTTL-time.Second/2 {
					t.Skip("the machine is too busy: the agent was away for longer than the check lasts")
				}
				s.pass(defaultCheckTTL + slack)
				tenure.unbroken()
				s.running(procs...)
			}
			s.seen(procs[0].Host)
		})
	}
}

// restartAgent ends the Consul agent of a host and starts it again. It returns how long
// the agent did not answer.
func (s *scene) restartAgent(h *lab.Host, end func(*lab.ConsulAgent) error) (away time.Duration) {
	s.t.Helper()
	agent := s.Cluster.Of(h)
	began := time.Now()
	s.NoError(end(agent))
	s.pass(agentDown - time.Since(began))
	s.NoError(agent.Start())
	s.await(condition{"the agent of " + h.Name + " to answer", func() error {
		_, err := agent.API.Agent().Self()
		return err
	}})
	return time.Since(began)
}

// numberOf returns the number that a variable of the environment has, or the default.
func numberOf(t *testing.T, env string, number int) int {
	t.Helper()
	if text := os.Getenv(env); text != "" {
		var err error
		number, err = strconv.Atoi(text)
		require.NoError(t, err, env)
	}
	return number
}

// durationOf returns the duration that a variable of the environment has, or the default.
func durationOf(t *testing.T, env string, d time.Duration) time.Duration {
	t.Helper()
	if text := os.Getenv(env); text != "" {
		var err error
		d, err = time.ParseDuration(text)
		require.NoError(t, err, env)
	}
	return d
}
