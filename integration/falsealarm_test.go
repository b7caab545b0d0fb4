package integration

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// alarmEnv is how long each disturbance of TestNoFalseAlarm lasts, such as "1m".
	alarmEnv = "INTEGRATION_ALARM"
	// busyLoops are as many processes as keep a small machine busy three times over.
	busyLoops = 6
)

// disturbance is something on the wire or on a host that must not look like the death of
// the owner's host.
type disturbance struct {
	name string
	// last disturbs for a time.
	last func(s *scene, d time.Duration, owner *lab.Process, standbys []*lab.Process)
}

var disturbances = []disturbance{
	{"busy machine", func(s *scene, d time.Duration, _ *lab.Process, _ []*lab.Process) {
		for range busyLoops {
			p := s.launch(s.Observer, "busy loop", lab.Command{Args: []string{"sh", "-c", "while :; do :; done"}})
			defer func() { s.NoError(p.Kill()) }()
		}
		s.pass(d)
	}},
	{"standbys stopped for 300 ms", func(s *scene, d time.Duration, _ *lab.Process, standbys []*lab.Process) {
		s.again(d, time.Second, func() {
			for _, p := range standbys {
				s.freeze(p)
			}
			s.pass(300 * time.Millisecond)
			for _, p := range standbys {
				s.signal(p, syscall.SIGCONT)
			}
		})
	}},
	{"1 % of the frames lost", func(s *scene, d time.Duration, _ *lab.Process, _ []*lab.Process) { s.losing(1, d) }},
	{"5 % of the frames lost", func(s *scene, d time.Duration, _ *lab.Process, _ []*lab.Process) { s.losing(5, d) }},
	{"standbys' links down", func(s *scene, d time.Duration, _ *lab.Process, standbys []*lab.Process) {
		for _, p := range standbys {
			s.NoError(p.Host.Unplug("eth0"))
			defer func() { s.NoError(p.Host.Plug("eth0")) }()
		}
		s.pass(d)
	}},
	{"witness down", func(s *scene, d time.Duration, _ *lab.Process, _ []*lab.Process) {
		s.NoError(s.Gateway.Unplug("eth0"))
		defer func() { s.NoError(s.Gateway.Plug("eth0")) }()
		s.pass(d)
	}},
	{"switch off for 2 s", func(s *scene, d time.Duration, _ *lab.Process, _ []*lab.Process) {
		s.again(d, 5*time.Second, func() {
			s.NoError(s.SetSwitch(false))
			defer func() { s.NoError(s.SetSwitch(true)) }()
			s.pass(2 * time.Second)
		})
	}},
	{"owner's host stopped for 150 ms", func(s *scene, d time.Duration, owner *lab.Process, _ []*lab.Process) {
		s.again(d, time.Second, func() { s.stall(owner.Host, 150*time.Millisecond) })
	}},
}

// TestNoFalseAlarm disturbs hosts and wire in ways that are no death of a host. Nothing
// moves, no process ends, and the client's address never leaves the owner's kernel.
func TestNoFalseAlarm(t *testing.T) {
	d := durationOf(t, alarmEnv, 5*time.Second)
	for _, disturbed := range disturbances {
		t.Run(disturbed.name, func(t *testing.T) {
			s := newClientsScene(t)
			procs := s.startAll(config{deadMan: longDeadMan})
			tenure := s.tenure(procs[0])
			s.pass(time.Second) // the host check has heard the owner often enough
			disturbed.last(s, d, procs[0], procs[1:])
			s.pass(calm)
			s.running(procs...)
			s.await(s.memberOn(procs[1].Host))
			tenure.unbroken()
		})
	}
}

// again does something every so often for a time, and at least once.
func (s *scene) again(d, every time.Duration, do func()) {
	s.t.Helper()
	for ends := time.Now().Add(d); ; {
		next := time.Now().Add(every)
		do()
		s.pass(time.Until(next))
		if time.Now().After(ends) {
			return
		}
	}
}

// stall stops a host for a time.
func (s *scene) stall(h *lab.Host, d time.Duration) {
	s.t.Helper()
	s.NoError(h.Stall())
	s.pass(d)
	s.NoError(h.Resume())
}

// losing has the switch lose a share of all frames for a time.
func (s *scene) losing(percent int, d time.Duration) {
	s.t.Helper()
	s.lose(percent)
	s.pass(d)
	s.NoError(s.Lose(s.t.Context(), 0))
}

// lose has the switch lose a share of all frames until the end of the test.
func (s *scene) lose(percent int) {
	s.t.Helper()
	s.NoError(s.Lose(s.t.Context(), percent))
	s.t.Cleanup(func() { _ = s.Lose(context.Background(), 0) }) // it may have ended before
}
