package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// contestTime is how long a foreign machine keeps an address: longer than the TTL of
	// a previous owner, after which the instances know that it is none of them.
	contestTime = sessionTTL + 10*time.Second
	// longestBackoff is how long all instances leave a contested address alone at most.
	longestBackoff = time.Minute
)

// TestContested has a foreign machine take one of nine addresses for good. It costs one
// exit at most, and none with on_conflict = "contend". From then on, nothing but that
// address is affected for as long as it lasts.
func TestContested(t *testing.T) {
	t.Parallel()
	for i, policy := range []struct {
		name  string
		exits bool
		code  int
	}{{"exit", true, 5}, {"quit", true, 0}, {"contend", false, 0}} {
		t.Run(policy.name, func(t *testing.T) {
			t.Parallel()
			s := newSceneWith(t, sharedLabOf(t, lab.Clients), everyAddress, addrs(12, byte(1+10*i), 9)...)
			c := unhurried(fmt.Sprintf("on_conflict = %q", policy.name))
			for _, h := range s.Servers {
				s.start(h, c)
			}
			s.settled()
			owner := s.instanceOn(s.hosts()[s.vip])
			leaves := s.contest()
			if policy.exits {
				s.exits(owner, policy.code, soon)
			}
			if policy.code == 5 {
				s.start(owner.Host, c) // as a scheduler does
			}
			s.isolated()
			leaves()
			s.awaitWithin(longestBackoff+slack, s.allBound())
			s.settled()
		})
	}
}

// unhurried is a configuration with which a machine that stalls for some seconds ends no
// session: no process may end in these tests but by the conflict.
func unhurried(vip string) config {
	return config{vip: vip, sessionTTL: 3 * sessionTTL, deadMan: 22 * time.Second, consul: `  check_ttl = "20s"`}
}

// TestContestedMoved has an operator end the back-off of an address when the foreign
// machine has left.
func TestContestedMoved(t *testing.T) {
	t.Parallel()
	s := newClientsScene(t)
	procs := s.startAll(unhurried(`on_conflict = "contend"`))
	leaves := s.contest()
	s.calmly(contestTime, procs)
	s.holds(s.contestedBy(s.Observer))
	leaves()
	began := time.Now()
	s.succeed(procs[2].Host, "move", s.vip.String(), "-to="+procs[2].Host.Name)
	s.await(s.ownedBy(procs[2].Host))
	t.Logf("served %v after the command began", time.Since(began))
	s.running(procs...)
}

// contest makes a foreign machine have the first address and announce it. The address
// stays there until leave or the end of the test. The machine is the observer's: that
// does not see its own answers.
func (s *scene) contest() (leave func()) {
	s.t.Helper()
	stranger, there := s.Observer, true
	leave = func() {
		if there {
			there = false
			s.NoError(stranger.RemoveAddress("eth0", prefixOf(s.vip)))
		}
	}
	s.NoError(stranger.AddAddress("eth0", prefixOf(s.vip)))
	s.t.Cleanup(leave)
	s.NoError(stranger.Send("eth0", lab.Gratuitous(lab.ARPRequest, stranger.MAC, s.vip).Frame()))
	return leave
}

// isolated requires that a contested address affects nothing else for a time: no process
// exits, no other address moves and every instance stays a member for all others.
func (s *scene) isolated() {
	s.t.Helper()
	contested, all := s.vip, s.vips
	s.vips = all[1:]
	s.settled()
	running := s.stillRunning()
	for _, p := range running {
		s.await(s.memberOn(p.Host))
	}
	before := s.indexes()
	s.calmly(contestTime, running)
	s.holds(s.contestedBy(s.Observer))
	s.Equal(before, s.indexes(), "the locks of the other addresses were written to")
	s.holds(s.allBound())
	for _, p := range running {
		s.holds(s.memberOn(p.Host))
	}
	s.vips = []netip.Addr{contested}
	s.holds(s.unbound())
	s.vips = all
}

// calmly lets time pass in which no process may end.
func (s *scene) calmly(d time.Duration, running []*lab.Process) {
	s.t.Helper()
	for began := time.Now(); time.Since(began) < d; {
		s.pass(time.Second / 2)
		s.running(running...)
	}
}

// stillRunning returns the instances that have not ended.
func (s *scene) stillRunning() (running []*lab.Process) {
	for _, p := range s.instances {
		if p.Running() {
			running = append(running, p)
		}
	}
	return running
}

// contestedBy is met when "consul-vip status" says that a foreign machine has the
// address.
func (s *scene) contestedBy(stranger *lab.Host) condition {
	want := fmt.Sprintf("contested by %s since ", stranger.MAC)
	return condition{fmt.Sprintf("status to say %q", want), func() error {
		r, err := s.statusRow(s.Servers[0])
		if err != nil {
			return err
		}
		if text := fmt.Sprint(r); !strings.Contains(text, want) {
			return errors.New(text)
		}
		return nil
	}}
}
