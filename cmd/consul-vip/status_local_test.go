package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/localstatus"
)

// told is what an agent tells.
type told struct{ status *localstatus.Status }

func (s told) Status(context.Context) (*localstatus.Status, error) { return s.status, nil }

// answering is the socket of an agent that answers until the end of the test.
func answering(t *testing.T, s *localstatus.Status) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.sock")
	l, err := localstatus.Listen(t.Context(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- localstatus.Serve(ctx, l, localstatus.Handler(told{s}), hclog.NewNullLogger()) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	return path
}

var started = time.Date(2026, 11, 22, 5, 11, 37, 0, time.UTC)

// after is a time after the start.
func after(d time.Duration) *time.Time {
	t := started.Add(d)
	return &t
}

// outage is an owner during an outage of Consul, with hostile texts.
func outage() *localstatus.Status {
	return &localstatus.Status{
		Node: "h1", Version: "1.2.3", Prefix: "consul-vip", Started: started,
		Consul: localstatus.Consul{
			LastContact: after(50 * time.Second), FailingSince: after(52 * time.Second), Error: "No cluster\nleader\x1b[2J",
			Session: "cdf2f1b7", HoldLeft: localstatus.Left(19450 * time.Millisecond),
		},
		Addresses: []localstatus.Address{
			{VIP: "10.77.0.100", State: "active", Since: after(time.Second), Interface: "eth0", Lock: "held", Owner: "h1", Failing: "hook x: exit\nstatus 1",
				HoldLeft: localstatus.Left(19450 * time.Millisecond), LifetimeLeft: localstatus.Left(6300 * time.Millisecond), Eligible: true,
				Require: []string{"web"}, Fitness: localstatus.NotFit, Unfit: "check web: no disk"},
			{VIP: "10.77.0.101", State: "standby", Since: after(0), Interface: "eth0", Lock: "foreign", Eligible: true, Fitness: localstatus.Fit, Note: "pinned to h\x1b2"},
			{VIP: "10.77.0.102", Interface: "eth1", Lock: "free", Ineligible: "the link is down", BackoffLeft: localstatus.Left(1500 * time.Millisecond)},
			{VIP: "10.77.0.103", State: "standby", Since: after(0), Interface: "eth1", Lock: "unknown", Ineligible: "check web: no disk",
				Fitness: localstatus.NotFit, Unfit: "check web: no disk"},
		},
		Checks: []localstatus.Check{
			{Name: "db", Fit: true, Known: true, Since: started},
			{Name: "new", Since: started, Reason: "it has not run yet"},
			{Name: "web", Known: true, Since: started, Reason: "no disk"},
			{Name: "worse", Known: true, Flapping: true, Since: started, Reason: "it has changed"},
		},
		HostChecks:  []localstatus.HostCheck{{Node: "h2", Host: "10.77.0.12", Interface: "eth0", Addresses: []string{"10.77.0.104", "10.77.0.105"}, State: "dead", Since: started, Missed: 9, Misses: 8}},
		Transitions: []localstatus.Transition{{Time: *after(1234 * time.Millisecond), VIP: "10.77.0.100", From: "acquired", To: "active", Reason: "address bound"}},
	}
}

func TestLocalTables(t *testing.T) {
	require.Equal(t, `h1, consul-vip 1.2.3, prefix consul-vip, running since 2026-11-22T05:11:37Z
Consul: no answer for 8s: No cluster leader [2J; last contact 10s ago; session cdf2f1b7, without another answer addresses may be held for 19.5s

VIP          STATE    SINCE                 INTERFACE  OWNER            HOLD   KERNEL  FIT  NOTE
10.77.0.100  active   2026-11-22T05:11:38Z  eth0       h1               19.5s  6.3s    no   failing: hook x: exit status 1; not fit: check web: no disk
10.77.0.101  standby  2026-11-22T05:11:37Z  eth0       another program  -      -       yes  pinned to h 2
10.77.0.102  -        -                     eth1       -                -      -       -    not eligible: the link is down; next try in 1.5s
10.77.0.103  standby  2026-11-22T05:11:37Z  eth1       unknown          -      -       no   not eligible: check web: no disk

CHECK  STATE     SINCE                 REASON
db     fit       2026-11-22T05:11:37Z
new    unknown   2026-11-22T05:11:37Z  it has not run yet
web    not fit   2026-11-22T05:11:37Z  no disk
worse  flapping  2026-11-22T05:11:37Z  it has changed

HOST CHECK  ADDRESS     INTERFACE  STATE  MISSED  SINCE                 OWNS
h2          10.77.0.12  eth0       dead   9 of 8  2026-11-22T05:11:37Z  10.77.0.104 10.77.0.105

TRANSITION                VIP          FROM      TO      REASON
2026-11-22T05:11:38.234Z  10.77.0.100  acquired  active  address bound
`, string(localTables(outage(), *after(time.Minute))))
}

func TestLocalTablesOfConsul(t *testing.T) {
	for want, c := range map[string]localstatus.Consul{
		"no answer yet; no session, so no address may be held":                                             {},
		"answers; last contact 300ms ago; no session, so no address may be held":                           {Answers: true, LastContact: after(time.Minute - 300*time.Millisecond)},
		"answers; last contact 0s ago; session s1, without another answer addresses may be held for 1m40s": {Answers: true, LastContact: after(61 * time.Second), Session: "s1", HoldLeft: localstatus.Left(100 * time.Second)},
		"no answer for 10s: refused; session s1, without another answer addresses may be held for 0s":      {FailingSince: after(50 * time.Second), Error: "refused", Session: "s1", HoldLeft: localstatus.Left(0)},
		"no answer for 10s: refused; last contact 11s ago; no session, so no address may be held":          {FailingSince: after(50 * time.Second), Error: "refused", LastContact: after(49 * time.Second)},
	} {
		assert.Equal(t, want, consulText(c, *after(time.Minute)))
	}
}

// Of many transitions people see the last ones, the JSON has all.
func TestStatusLocal(t *testing.T) {
	s := outage()
	for range 2 * shownTransitions {
		s.Transitions = append(s.Transitions, localstatus.Transition{Time: started, VIP: "10.77.0.9", To: "standby"})
	}
	path := answering(t, s)
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run([]string{"status", "-local", "-socket=" + path}, &stdout, &stderr), stderr.String())
	assert.Equal(t, shownTransitions, bytes.Count(stdout.Bytes(), []byte("10.77.0.9 ")))
	assert.NotContains(t, stdout.String(), "\x1b")
	assert.Empty(t, stderr.String())

	stdout.Reset()
	require.Equal(t, exitOK, run([]string{"status", "-local", "-json", "-socket", path}, &stdout, &stderr), stderr.String())
	assert.NotContains(t, stdout.String(), "\x1b")
	var got localstatus.Status
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &got))
	assert.Equal(t, *s, got)
}

func TestStatusLocalFails(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "a.sock")
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no agent":       {[]string{"-local", "-socket=" + missing}, exitFailure, missing + `: no agent listens there: start the agent, with socket = "` + missing + `" in its configuration`},
		"watch":          {[]string{"-local", "-watch"}, exitUsage, "-local does not go with -watch"},
		"socket alone":   {[]string{"-socket=" + missing}, exitUsage, "-socket needs -local"},
		"with arguments": {[]string{"-local", "10.77.0.100"}, exitUsage, "takes no arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, test.code, run(append([]string{"status"}, test.args...), &stdout, &stderr))
			assert.Contains(t, stderr.String(), test.says)
			assert.Empty(t, stdout.String())
		})
	}
}
