package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// quickEnough is a generous time for the takeover of a dead host's address. The old
	// way, by the end of the owner's session, takes six seconds at least.
	quickEnough = 2 * time.Second
	// hearLimit is how long an owner that comes back may take until it has heard that
	// another host took its address.
	hearLimit = time.Second
	// stallTries is how often a host is stopped until another one takes its address: the
	// other one must find out and have it committed before the host is back, for which a
	// busy machine may take too long.
	stallTries = 5
)

// noteOf is what the status says of an address that was taken from a host.
func noteOf(victim *lab.Host) string {
	return fmt.Sprintf("taken over from %s: host did not answer", victim.Name)
}

// noted is met when the status says so of the address.
func (s *scene) noted(by *lab.Host, note string, want bool) condition {
	return condition{fmt.Sprintf("status to say %q: %t", note, want), func() error {
		r, err := s.statusRow(by)
		if err == nil && strings.Contains(r.text("note"), note) != want {
			err = fmt.Errorf("%v", r)
		}
		return err
	}}
}

// tells is met when one line in the log of a process, with its fields, has all of these
// texts.
func tells(p *lab.Process, texts ...string) condition {
	return condition{fmt.Sprintf("%s to log a line with %q", p.Host.Name, texts), func() error {
		for _, e := range p.Entries() {
			line, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(string(line), text) }) {
				return nil
			}
		}
		return fmt.Errorf("no such line")
	}}
}

// dies ends a host as a power failure does, until the end of the test: its cables are out
// before its processes end.
func (s *scene) dies(h *lab.Host) {
	s.t.Helper()
	agent := s.Cluster.Of(h)
	cables := []string{"eth0"}
	if h.ConsulInterface != "eth0" {
		cables = append(cables, h.ConsulInterface)
	}
	s.t.Cleanup(func() {
		s.forgets(h)
		for _, ifname := range cables {
			s.NoError(h.Plug(ifname))
		}
		s.NoError(agent.Start())
		s.consulReady()
	})
	for _, ifname := range cables {
		s.NoError(h.Unplug(ifname))
	}
	s.NoError(s.instanceOn(h).Kill())
	s.NoError(agent.Kill())
}

// forgets removes the floating addresses of a host: one that was dead has none when it is
// back.
func (s *scene) forgets(h *lab.Host) {
	s.t.Helper()
	bound, err := h.Bound()
	s.NoError(err)
	for _, addr := range bound {
		if slices.Contains(s.vips, addr) {
			s.NoError(h.RemoveAddress("eth0", netip.PrefixFrom(addr, addr.BitLen())))
		}
	}
}

// ranked returns the hosts, first those whose Consul agent is the leader, or is not.
func (s *scene) ranked(leaderFirst bool) []*lab.Host {
	s.t.Helper()
	var first, last []*lab.Host
	s.retry("finding Consul's leader", func() error {
		leader, err := s.Cluster.Leader()
		first, last = nil, nil
		for _, h := range s.Servers {
			if err == nil && (leader.Host == h) == leaderFirst {
				first = append(first, h)
			} else {
				last = append(last, h)
			}
		}
		return err
	})
	return append(first, last...)
}

// useServerBut makes the test itself ask a Consul server that is not on this host.
func (s *scene) useServerBut(h *lab.Host) {
	for _, a := range s.Cluster.Servers {
		if a.Host != h {
			s.server = a
		}
	}
}

// inWorlds runs a test in each world.
func inWorlds(t *testing.T, test func(t *testing.T, s *scene)) {
	t.Helper()
	for _, w := range lab.Worlds {
		t.Run(string(w), func(t *testing.T) { test(t, newSceneIn(t, sharedLabOf(t, w))) })
	}
}

// TestHostDeath ends the owner's host. Another one has its address long before Consul
// ends the session.
func TestHostDeath(t *testing.T) {
	inWorldsAndFamilies(t, func(_ *testing.T, s *scene) {
		procs := s.startOn(config{}, s.ranked(false)...)
		victim, witness := procs[0].Host, procs[1].Host
		s.useServerBut(victim)
		s.pass(calm) // the host check has heard the owner often enough
		stalled := s.machine.stalled()
		s.dies(victim)
		next := s.takenOver(victim)
		s.await(s.noted(witness, noteOf(victim), true))
		gap := s.client.Report().Longest().Length()
		s.t.Logf("%v without an answer, then by %s", gap, next.Name)
		s.Less(gap, quickEnough+s.machine.stalled()-stalled, "time without an answer")
		s.seen(victim, next)
		s.running(procs[1:]...)
	})
}

// TestLeaderDeath ends the owner's host while it is Consul's leader too. The address is
// taken when there is another leader.
func TestLeaderDeath(t *testing.T) {
	s := newScene(t)
	procs := s.startOn(config{}, s.ranked(true)...)
	victim := procs[0].Host
	s.useServerBut(victim)
	s.pass(calm)
	s.dies(victim)
	next := s.takenOver(victim)
	s.await(s.noted(procs[1].Host, noteOf(victim), true))
	s.t.Logf("%v without an answer", s.client.Report().Longest().Length())
	s.seen(victim, next)
}

// TestHostDeathManyAddresses ends a host that has a hundred addresses of each family.
func TestHostDeathManyAddresses(t *testing.T) {
	s := newSceneWith(t, sharedLabOf(t, lab.Clients), 100*time.Millisecond, hundreds(14)...)
	procs := s.startAll(config{})
	s.await(s.allOn(procs[0].Host, s.vips...))
	s.pass(calm)
	began := time.Now()
	s.dies(procs[0].Host)
	s.await(condition{"the two others to have all addresses", func() error {
		bound, err := s.bound()
		for _, vip := range s.vips {
			if err == nil && !slices.ContainsFunc(bound[vip], func(h *lab.Host) bool { return h != procs[0].Host }) {
				err = fmt.Errorf("%s on %v", vip, names(bound[vip]))
			}
		}
		return err
	}})
	t.Logf("all on other hosts after %v", time.Since(began))
	s.running(procs[1:]...)
}

// TestHostStalled stops the owner's host for so long that another one takes its address.
// That happens once: the host that comes back neither exits nor takes it back.
func TestHostStalled(t *testing.T) {
	inWorldsAndFamilies(t, func(t *testing.T, s *scene) {
		procs := s.startOn(config{deadMan: longDeadMan}, s.ranked(false)...)
		p := procs[0]
		s.useServerBut(p.Host)
		s.pass(calm)
		before, _ := s.lockOf(s.vip)
		next, back := s.stalledUntilTaken(p.Host)
		s.await(tells(p, next.Name, "did not answer"))
		s.await(s.noted(p.Host, noteOf(p.Host), true))
		s.await(inState(p, "standby"))
		s.await(s.memberOn(p.Host))
		s.pass(calm)
		s.running(procs...)
		s.holds(s.ownedBy(next))
		after, _ := s.lockOf(s.vip)
		s.Equal(before.LockIndex+1, after.LockIndex, "times that the lock was acquired")
		for _, d := range s.observer.Doubles() {
			t.Logf("two answers %v after the host was back", d.At.Sub(back))
		}
	})
}

// stalledUntilTaken stops a host for 400 ms until another one has its address. It returns
// that one, and when the host was back. From then on, and until it has had time to hear,
// two hosts may answer.
func (s *scene) stalledUntilTaken(h *lab.Host) (next *lab.Host, back time.Time) {
	s.t.Helper()
	s.excused = func(d lab.Double) bool { return d.At.After(back) && d.At.Before(back.Add(hearLimit)) }
	for range stallTries {
		s.NoError(h.Stall())
		s.pass(400 * time.Millisecond)
		back = time.Now()
		s.NoError(h.Resume())
		s.pass(calm)
		if next = s.owner(); next != h {
			return next, back
		}
	}
	s.FailNow("expected another host than " + h.Name + " to own the address")
	return nil, back
}

// TestTwoHosts ends one of two hosts. With a gateway, the other one is sure that itself is
// heard and takes the address. Without one, it cannot be: it waits for Consul, and says at
// the start that it will.
func TestTwoHosts(t *testing.T) {
	inWorldsAndFamilies(t, func(_ *testing.T, s *scene) {
		procs := s.startOn(config{}, s.ranked(false)[:2]...)
		victim, other := procs[0].Host, procs[1].Host
		s.useServerBut(victim)
		s.pass(calm)
		if s.Gateway == nil {
			s.await(tells(procs[1], "witness"))
		}
		s.dies(victim)
		s.takenOver(victim)
		s.holds(s.noted(other, noteOf(victim), s.Gateway != nil))
		s.seen(victim, other)
	})
}

// TestHostCheckOff has the death of a host wait for Consul where the check is off.
func TestHostCheckOff(t *testing.T) {
	s := newClientsScene(t)
	procs := s.startAll(config{vip: "host_check { misses = 0 }"})
	victim := procs[0].Host
	s.pass(calm)
	s.dies(victim)
	next := s.takenOver(victim)
	s.holds(s.noted(next, noteOf(victim), false))
	s.Greater(s.client.Report().Longest().Length(), quickEnough, "time without an answer")
}

// TestProofWithoutAnswers kills an owner whose host cannot prove by an answer that it has
// let go: it has no address of its own there, or its kernel answers no ARP. The successor
// waits for silence, and says so.
func TestProofWithoutAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		family  family
		silence func(s *scene, h *lab.Host)
	}{
		"no address of its own": {ipv4, (*scene).takeOwnAddress},
		"arp_ignore=8": {ipv4, func(s *scene, h *lab.Host) {
			const ignore = "net/ipv4/conf/eth0/arp_ignore"
			s.NoError(h.SetSysctl(ignore, "8"))
			s.t.Cleanup(func() { s.NoError(h.SetSysctl(ignore, "0")) })
		}},
		"no link-local address": {ipv6, func(s *scene, h *lab.Host) {
			local := netip.PrefixFrom(h.LinkLocal(), 64)
			s.NoError(h.RemoveAddress("eth0", local))
			s.t.Cleanup(func() { s.NoError(h.AddAddress("eth0", local)) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLabOf(t, lab.Clients), tt.family)
			h := s.Servers[0]
			tt.silence(s, h)
			// Without answers, only announcements tell the client where the address is.
			procs := s.startAll(config{vip: "interface = \"eth0\"\nannounce { interval = \"1s\" }"})
			s.NoError(procs[0].Kill())
			next := s.takenOver(h)
			s.await(tells(s.instanceOn(next), "silence"))
			s.t.Log(s.client.Report())
		})
	}
}

// takeOwnAddress removes a host's own address of eth0 until the end of the test. Its
// floating addresses stay reachable.
func (s *scene) takeOwnAddress(h *lab.Host) {
	s.t.Helper()
	route := func(operation string) {
		s.t.Helper()
		_, err := h.Run(context.Background(), lab.Command{Args: []string{"ip", "route", operation, lab.Subnet.String(), "dev", "eth0", "metric", "5"}})
		s.NoError(err)
	}
	s.NoError(h.RemoveAddress("eth0", netip.PrefixFrom(h.Addr, lab.Subnet.Bits())))
	route("add")
	s.t.Cleanup(func() {
		s.NoError(h.AddAddress("eth0", netip.PrefixFrom(h.Addr, lab.Subnet.Bits())))
		route("replace") // the kernel has removed it with the last address of the link
		route("del")
		s.NoError(h.SetLink("eth0", true)) // restores the default route
	})
}
