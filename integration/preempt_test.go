package integration

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestPreempt starts an instance of a better priority. It gets the address, and
// gives it back when it stops.
func TestPreempt(t *testing.T) {
	s := newScene(t)
	preempt := func(priority int) config {
		return config{vip: fmt.Sprintf("  priority = %d\n  preempt = true\n  preempt_delay = \"1s\"", priority)}
	}
	low := s.startOn(preempt(200), s.Servers[0])[0]
	high := s.start(s.Servers[1], preempt(50))
	s.await(s.ownedBy(high.Host))
	s.running(low)
	s.stop(high)
	s.await(s.ownedBy(low.Host))
}

// TestPrioritySignals raises and lowers the priority of one instance, and with it
// moves the address.
func TestPrioritySignals(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	preempt := config{vip: "preempt = true\npreempt_delay = \"1s\""}
	h1, h2 := s.Servers[0], s.Servers[1]
	s.startOn(preempt, h1)
	p := s.start(h2, preempt)
	s.await(s.memberWith(h2, s.vip, 100))
	send := func(signal os.Signal, priority int) {
		t.Helper()
		s.signal(p, signal)
		s.await(s.memberWith(h2, s.vip, priority))
	}
	send(syscall.SIGUSR1, 99)
	s.await(s.ownedBy(h2))
	send(syscall.SIGUSR2, 100)
	send(syscall.SIGUSR2, 101)
	s.await(s.ownedBy(h1))

	// A new configuration does not undo the signals.
	s.configure(h2, s.hcl(config{vip: preempt.vip + "\npriority = 90"}))
	send(syscall.SIGHUP, 91)
	s.await(s.ownedBy(h2))
	s.seen(h1, h2, h1, h2)
}
