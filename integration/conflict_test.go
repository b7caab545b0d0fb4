package integration

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

var (
	// strangerMAC belongs to no interface of the lab.
	strangerMAC = net.HardwareAddr{2, 0, 0, 0, 0xff, 1}
	// lastMAC is another one. A conflict with it proves that the owner has read
	// every frame that was sent before.
	lastMAC = net.HardwareAddr{2, 0, 0, 0, 0xff, 2}
)

// backOff is longer than all instances leave an address alone that is contested for a
// few seconds.
const backOff = 10 * time.Second

// claim sends a gratuitous ARP frame from the observer's host.
func (s *scene) claim(operation uint16, mac net.HardwareAddr) {
	s.t.Helper()
	s.NoError(s.Observer.Send("eth0", lab.Gratuitous(operation, mac, s.vip).Frame()))
}

// conflictWith is met when a process has logged one conflict, with this address.
func conflictWith(p *lab.Process, mac net.HardwareAddr) condition {
	return condition{fmt.Sprintf("%s to log one conflict, with %s", p.Host.Name, mac), func() error {
		conflicts := logged(p, "address conflict")
		if len(conflicts) != 1 || conflicts[0].Get("mac") != mac.String() {
			return fmt.Errorf("%v", conflicts)
		}
		return nil
	}}
}

// TestForeignClaim has a stranger claim the address. The owner lets go of it at
// once and exits with the code of a conflict.
func TestForeignClaim(t *testing.T) {
	for _, f := range families {
		for name, claim := range f.claims {
			t.Run(name, func(t *testing.T) {
				s := newSceneOfFamily(t, sharedLab(t), f)
				p := s.startAll(config{})[0]
				h1 := p.Host
				s.NoError(s.Observer.Send("eth0", claim(strangerMAC, s.vip)))
				s.exits(p, 5, soon)
				s.holds(s.notOn(h1))
				s.holds(conflictWith(p, strangerMAC))

				released := logged(p, "released the address")
				s.Len(released, 1)
				reaction, err := time.ParseDuration(released[0].Get("reaction"))
				s.NoError(err)
				t.Logf("unbound %v after the frame", reaction)
				s.Less(reaction, time.Second, "reaction")

				s.seen(h1, s.takenOver(h1))
			})
		}
	}
}

func TestOnConflictQuit(t *testing.T) {
	s := newScene(t)
	p := s.startAll(config{vip: `on_conflict = "quit"`})[0]
	s.claim(lab.ARPRequest, strangerMAC)
	s.exits(p, 0, soon)
	s.holds(s.notOn(p.Host))
	s.seen(p.Host, s.takenOver(p.Host))
}

// TestOnConflictDefend requires the owner to announce the address against a claim. All
// other announcements are over, or an hour away.
func TestOnConflictDefend(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := s.startAll(config{vip: "on_conflict = \"defend\"\nannounce { interval = \"1h\" }"})[0]
	s.await(s.burstOver(s.vip))
	tenure := s.tenure(p)
	s.claim(lab.ARPRequest, strangerMAC)
	s.await(conflictWith(p, strangerMAC))
	s.await(condition{"a frame that defends the address", func() error {
		if n := s.frames(s.vip); n <= burst {
			return fmt.Errorf("%d frames since it was bound", n)
		}
		return nil
	}})
	tenure.unbroken()
	s.announced(p.Host)
	s.seen(p.Host)
}

// TestOnConflictLog has the owner do nothing about a claim: its next periodic
// announcement wins the client back.
func TestOnConflictLog(t *testing.T) {
	s := newScene(t)
	p := s.startAll(config{vip: `on_conflict = "log"`})[0]
	s.claim(lab.ARPRequest, strangerMAC)
	s.await(conflictWith(p, strangerMAC))
	s.await(s.ownedBy(p.Host))
	s.seen(p.Host)
	s.await(inState(p, "active"))
}

// TestNoConflict sends the owner frames in which no stranger claims its address.
func TestNoConflict(t *testing.T) {
	t.Parallel()
	inFamilies(t, func(_ *testing.T, s *scene, f family) {
		s.noConflict(f, func(*lab.Host) {
			for _, frame := range f.harmless(strangerMAC, s.vip) {
				s.NoError(s.Observer.Send("eth0", frame))
			}
		})
	})
}

// TestNoConflictWithItself has the owner's second interface claim its address.
func TestNoConflictWithItself(t *testing.T) {
	inFamilies(t, func(_ *testing.T, s *scene, f family) {
		s.noConflict(f, func(owner *lab.Host) {
			own := net.HardwareAddr{2, 0, 0, 0, 1, 1}
			s.NoError(owner.AddInterface("eth1", own))
			s.t.Cleanup(func() { s.NoError(owner.RemoveInterface("eth1")) })
			for _, claim := range f.claims {
				s.NoError(owner.Send("eth1", claim(own, s.vip)))
			}
		})
	})
}

// noConflict requires that what send does ends no process, unlike the claim after it.
func (s *scene) noConflict(f family, send func(owner *lab.Host)) {
	s.t.Helper()
	p := s.startAll(config{})[0]
	send(p.Host)
	s.await(s.ownedBy(p.Host))

	for _, claim := range f.claims {
		s.NoError(s.Observer.Send("eth0", claim(lastMAC, s.vip)))
		break
	}
	s.exits(p, 5, soon)
	s.holds(conflictWith(p, lastMAC))
	s.takenOver(p.Host)
}

// TestStranger has a host answer for the address that runs no consul-vip. The next
// instance that gets the lock does not bind the address and goes on. It serves the
// address once the stranger has left.
func TestStranger(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1, h2, stranger := s.Servers[0], s.Servers[1], s.Client
	s.NoError(s.startOn(config{}, h1)[0].Kill())
	s.awaitWithin(deadMan+slack, s.notOn(h1))
	s.NoError(stranger.AddAddress("eth0", prefixOf(s.vip)))
	leave := sync.OnceFunc(func() { s.NoError(stranger.RemoveAddress("eth0", prefixOf(s.vip))) })
	t.Cleanup(leave)

	p := s.start(h2, config{})
	const contested = "address contested"
	s.awaitWithin(sessionTTL+soon, mentions(p, contested))
	s.Equal(stranger.MAC.String(), logged(p, contested)[0].Get("mac"))
	s.pass(calm)
	s.running(p)
	s.holds(s.notOn(h2))
	s.NotContains(lab.HostsOf(s.observer.Owned(s.vip)), h2.Name)
	leave()
	s.awaitWithin(backOff+soon, s.ownedBy(h2))
}
