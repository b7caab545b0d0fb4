package integration

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

var (
	// foreign belongs to no interface of the lab.
	foreign = net.HardwareAddr{2, 0, 0, 0, 0xff, 1}
	// sentinel is another such, whose claim proves that everything sent before
	// it has been looked at.
	sentinel = net.HardwareAddr{2, 0, 0, 0, 0xff, 2}
)

// claim sends a gratuitous ARP frame from the observer's host.
func (s *scene) claim(operation uint16, mac net.HardwareAddr) {
	s.t.Helper()
	require.NoError(s.t, s.Observer.Send("eth0", lab.Gratuitous(operation, mac, s.vip).Frame()))
}

func TestForeignClaim(t *testing.T) {
	for name, operation := range map[string]uint16{"request": lab.ARPRequest, "reply": lab.ARPReply} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			procs := s.startAll(config{})
			h1 := procs[0].Host
			s.claim(operation, foreign)
			s.exits(procs[0], 5, within)
			s.unboundOn(h1)

			require.NoError(t, conflicting(procs[0], foreign))
			released := logged(procs[0], "released the address")
			require.Len(t, released, 1)
			reaction, err := time.ParseDuration(released[0].Get("reaction"))
			require.NoError(t, err)
			require.Less(t, reaction, 100*time.Millisecond)
			t.Logf("unbound %v after the frame", reaction)

			next := s.takenOver(h1)
			s.seen(h1, next)
		})
	}
}

func TestOnConflictQuit(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{vip: `on_conflict = "quit"`})
	s.claim(lab.ARPRequest, foreign)
	s.exits(procs[0], 0, within)
	s.unboundOn(procs[0].Host)
	s.seen(procs[0].Host, s.takenOver(procs[0].Host))
}

func TestOnConflictDefend(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{vip: `on_conflict = "defend"`})
	h1 := procs[0].Host
	s.elapse(5 * time.Second) // until the announcements after binding are over
	s.claim(lab.ARPRequest, foreign)
	s.eventually(within, func() error { return conflicting(procs[0], foreign) })
	s.eventually(within, func() error { return s.ownedBy(h1) })
	s.seen(h1)
	require.Less(t, s.ping.Report().Longest().Length(), time.Second, "it must win the client back")
	require.NoError(t, inState(procs[0], "active"))
}

func TestOnConflictLog(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	procs := s.startAll(config{vip: `on_conflict = "log"`})
	s.claim(lab.ARPRequest, foreign)
	s.eventually(within, func() error { return conflicting(procs[0], foreign) })
	s.eventually(2*soon, func() error { return s.ownedBy(procs[0].Host) })
	s.seen(procs[0].Host)
	require.NoError(t, inState(procs[0], "active"))
}

// conflicting objects unless the process has logged one conflict, with this address.
func conflicting(p *lab.Process, mac net.HardwareAddr) error {
	conflicts := logged(p, "address conflict")
	if len(conflicts) != 1 || conflicts[0].Get("mac") != mac.String() {
		return fmt.Errorf("%d conflicts logged: %v", len(conflicts), conflicts)
	}
	return nil
}

// TestNoClaim sends the owner what is no claim to its address by somebody else.
func TestNoClaim(t *testing.T) {
	tests := map[string]func(t *testing.T, s *scene, owner *lab.Host){
		"probe by another host": func(t *testing.T, s *scene, _ *lab.Host) {
			require.NoError(t, s.Observer.Send("eth0", lab.Probe(foreign, s.vip).Frame()))
		},
		"question by another host": func(t *testing.T, s *scene, _ *lab.Host) {
			ask := lab.ARP{Operation: lab.ARPRequest, SenderMAC: foreign, SenderIP: netip.MustParseAddr("10.77.0.99"), TargetIP: s.vip}
			require.NoError(t, s.Observer.Send("eth0", ask.Frame()))
		},
		"claim by the host's second interface": func(t *testing.T, s *scene, owner *lab.Host) {
			own := net.HardwareAddr{2, 0, 0, 0, 1, 1}
			require.NoError(t, owner.AddInterface("eth1", own))
			t.Cleanup(func() { require.NoError(t, owner.RemoveInterface("eth1")) })
			for _, operation := range []uint16{lab.ARPRequest, lab.ARPReply} {
				require.NoError(t, owner.Send("eth1", lab.Gratuitous(operation, own, s.vip).Frame()))
			}
		},
		"truncated frames": func(t *testing.T, s *scene, _ *lab.Host) {
			frame := lab.Gratuitous(lab.ARPRequest, foreign, s.vip).Frame()
			const header = 14 // less is no Ethernet frame
			for n := header; n < len(frame); n++ {
				require.NoError(t, s.Observer.Send("eth0", frame[:n]))
			}
		},
	}
	for name, send := range tests {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, sharedWorld(t))
			procs := s.startAll(config{})
			send(t, s, procs[0].Host)
			require.NoError(t, s.ownedBy(procs[0].Host))

			s.claim(lab.ARPRequest, sentinel)
			s.exits(procs[0], 5, within)
			require.NoError(t, conflicting(procs[0], sentinel))
			s.takenOver(procs[0].Host)
		})
	}
}

// TestStranger has a host answer for the address that runs no consul-vip. Whoever
// gets the lock must not bind it then.
func TestStranger(t *testing.T) {
	s := newScene(t, sharedWorld(t))
	h1, h2, stranger := s.Servers[0], s.Servers[1], s.Client
	require.NoError(t, s.startOn(config{}, h1)[0].Kill())
	s.eventually(deadMan+within, func() error { return notOn(s, h1) })
	prefix := netip.PrefixFrom(s.vip, 32)
	require.NoError(t, stranger.AddAddress("eth0", prefix))
	t.Cleanup(func() { require.NoError(t, stranger.RemoveAddress("eth0", prefix)) })

	p := s.start(h2, config{})
	s.exits(p, 5, sessionTTL+soon)
	require.Contains(t, p.String(), stranger.MAC.String())
	s.unboundOn(h2)
	for _, r := range s.witness.Owned(s.vip) {
		require.NotEqual(t, h2.Name, r.Host)
	}
}
