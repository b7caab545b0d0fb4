package integration

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestCrash kills and freezes the owner. In both cases the kernel alone takes the
// address away, and the successor waits until it has.
func TestCrash(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(s *scene, p *lab.Process){
		"killed": func(s *scene, p *lab.Process) { s.NoError(p.Kill()) },
		"frozen": (*scene).freeze,
	} {
		t.Run(name, func(t *testing.T) {
			inFamilies(t, func(t *testing.T, s *scene, _ family) {
				p := s.startAll(config{})[0]
				h1 := p.Host
				events := s.monitor(h1)

				began := time.Now()
				harm(s, p)
				s.awaitWithin(deadMan+slack, s.notOn(h1))
				t.Logf("the kernel took the address away after %v of at most %v", time.Since(began), deadMan+time.Second)
				s.LessOrEqual(longestLifetime(events, s.vip), deadMan, "lifetime of the address")
				next := s.takenOver(h1)
				s.seen(h1, next)
				s.announced(h1, next)

				if p.Running() { // frozen
					s.signal(p, syscall.SIGCONT)
					s.exits(p, 4, soon)
					s.holds(s.notOn(h1))
					s.seen(h1, next)
					s.announced(h1, next)
				}
			})
		})
	}
}

// TestShortFreeze freezes the owner, but not for long enough to lose the address.
// There is no check, and the address's lifetime is long, so that a slow machine does
// not make them end.
func TestShortFreeze(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := s.startAll(config{deadMan: longDeadMan, consul: `  check_ttl = "0s"`})[0]
	tenure := s.tenure(p)
	s.freeze(p)
	s.pass(1500 * time.Millisecond) // more than the program takes for a slow machine
	s.signal(p, syscall.SIGCONT)
	s.await(mentions(p, "the process was paused, verifying the lock"))
	s.pass(deadMan)
	tenure.unbroken()
	s.seen(p.Host)
}

// TestAddressRemoved removes the owner's address as a network manager might.
func TestAddressRemoved(t *testing.T) {
	inFamilies(t, func(_ *testing.T, s *scene, _ family) {
		p := s.startAll(config{})[0]
		s.NoError(p.Host.RemoveAddress("eth0", prefixOf(s.vip)))
		s.await(logs(p, "another program removed the address, bound it again", 1))
		s.await(s.ownedBy(p.Host))
		s.running(p)
		s.seen(p.Host)
	})
}

func prefixOf(vip netip.Addr) netip.Prefix { return netip.PrefixFrom(vip, vip.BitLen()) }
