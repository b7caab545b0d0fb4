package integration

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// lifetimeOver is longer than the kernel keeps the address of an announcer that was killed.
const lifetimeOver = 10 * time.Second

// announce starts an announcer of the scene's address on a host.
func (s *scene) announce(h *lab.Host, flags ...string) *lab.Process {
	s.t.Helper()
	args := append([]string{s.ConsulVIP, "announce", "-ip=" + s.vip.String(), "-log-json"}, flags...)
	return s.launch(h, "consul-vip announce", lab.Command{Args: args})
}

// announcing starts an announcer and waits until it serves the address.
func (s *scene) announcing(h *lab.Host, flags ...string) *lab.Process {
	s.t.Helper()
	p := s.announce(h, flags...)
	s.await(logs(p, "announcing the address", 1))
	s.await(s.answeredBy(h))
	return p
}

// answeredBy is met when a host answers the client and has the address.
func (s *scene) answeredBy(h *lab.Host) condition {
	return condition{h.Name + " to serve the address", func() error {
		if bound, err := s.bound(); err != nil || len(bound[s.vip]) != 1 || bound[s.vip][0] != h {
			return fmt.Errorf("bound: %v %w", names(bound[s.vip]), err)
		}
		return s.client.CheckAnsweredBy(h)
	}}
}

// TestAnnounce runs the life of an announcer: stopped by either signal, or killed, it
// leaves nothing behind.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLab(t), f)
			h1 := s.Servers[0]
			for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
				p := s.announcing(h1)
				s.restartClient()
				s.await(s.answeredBy(h1))
				s.signal(p, signal)
				s.exits(p, 0, soon)
				s.holds(s.notOn(h1))
			}
			p := s.announcing(h1)
			s.signal(p, syscall.SIGKILL)
			s.awaitWithin(lifetimeOver, s.notOn(h1))
		})
	}
}

// TestSecondAnnouncer starts a second one by mistake, also again and again, as a scheduler
// does. The first one is not disturbed.
func TestSecondAnnouncer(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLab(t), f)
			h1, h2 := s.Servers[0], s.Servers[1]
			p := s.announcing(h1)
			s.restartClient()
			s.await(s.answeredBy(h1))
			for range 5 {
				s.exits(s.announce(h2), 5, soon)
			}
			s.exits(s.announce(h2, "-watch=quit"), 0, soon)
			s.running(p)
			s.holds(s.answeredBy(h1))
			s.Zero(len(logged(p, "another station claims the address, announcing it again: the higher MAC has to give up")))
			s.Equal([]string{h1.Name}, s.client.Report().Hosts(), "who has answered")

			waits := s.announce(h2, "-wait=1m")
			s.await(logs(waits, "asking whether another station has the address", 1))
			s.signal(p, syscall.SIGTERM)
			s.exits(p, 0, soon)
			s.await(s.answeredBy(h2))
			s.signal(waits, syscall.SIGTERM)
			s.exits(waits, 0, soon)
		})
	}
}

// TestTwoAnnouncersThatMeet starts two that do not hear each other. When they do, the one
// with the higher MAC gives up, and the other one stays.
func TestTwoAnnouncersThatMeet(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLab(t), f)
			s.excused = func(lab.Double) bool { return true }
			low, high := s.Servers[0], s.Servers[1]
			if bytes.Compare(low.MAC, high.MAC) > 0 {
				low, high = high, low
			}
			hear := []func(){s.isolate(low), s.isolate(high)}
			stays, leaves := s.announce(low, "-interval=1s"), s.announce(high, "-interval=1s")
			s.await(logs(stays, "announcing the address", 1))
			s.await(logs(leaves, "announcing the address", 1))
			for _, h := range hear {
				h()
			}
			s.exits(leaves, 5, soon)
			s.holds(s.notOn(high))
			s.await(s.answeredBy(low))
			s.running(stays)
			s.exits(s.announce(high), 5, soon)
			s.running(stays)
		})
	}
}

// isolate keeps a host from hearing ARP and neighbor discovery on the segment.
func (s *scene) isolate(h *lab.Host) (hear func()) {
	s.t.Helper()
	const chain = "type filter hook ingress device \"eth0\" priority 0; ether type arp drop; " +
		"icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop;"
	return s.filterFrames(h, chain)
}

// TestAnnouncerIsClaimed has a stranger claim the address of an announcer.
func TestAnnouncerIsClaimed(t *testing.T) {
	t.Parallel()
	lower := net.HardwareAddr{2, 0, 0, 0, 0, 0}
	for _, f := range families {
		for watch, code := range map[string]int{"fail": 5, "quit": 0, "log": -1, "no": -1} {
			t.Run(f.name+" "+watch, func(t *testing.T) {
				s := newSceneOfFamily(t, sharedLab(t), f)
				h1 := s.Servers[0]
				p := s.announcing(h1, "-watch="+watch)
				for _, claim := range f.claims {
					s.NoError(s.Observer.Send("eth0", claim(lower, s.vip)))
				}
				if code >= 0 {
					s.exits(p, code, soon)
					s.holds(s.notOn(h1))
					return
				}
				if watch == "log" {
					s.await(outputs(p, lower.String()))
				}
				s.running(p)
				s.holds(s.allOn(h1))
			})
		}
	}
}

// TestAnnounceUnmanaged replaces arping: an administrator has moved the address.
func TestAnnounceUnmanaged(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLab(t), f)
			h1, h2 := s.Servers[0], s.Servers[1]
			whole := netip.PrefixFrom(s.vip, s.vip.BitLen())
			s.NoError(h1.AddAddress("eth0", whole))
			s.restartClient()
			s.await(s.answeredBy(h1))
			s.NoError(h1.RemoveAddress("eth0", whole))
			s.NoError(h2.AddAddress("eth0", whole))
			s.exits(s.announce(h2, "-unmanaged-ip", "-count=4", "-interval=1s"), 0, soon)
			s.await(s.answeredBy(h2))
			mac, err := s.Client.Neighbour(s.vip)
			s.NoError(err)
			s.Equal(h2.MAC.String(), mac.String(), "the client's neighbour entry")
			s.NoError(h2.RemoveAddress("eth0", whole))
		})
	}
}

// TestAnnounceExistingAddress has an administrator bind the address before.
func TestAnnounceExistingAddress(t *testing.T) {
	s := newScene(t)
	h1 := s.Servers[0]
	whole := netip.PrefixFrom(s.vip, 24)
	s.NoError(h1.AddAddress("eth0", whole))
	s.exits(s.announce(h1, "-die-if-ip-exists"), 1, soon)
	s.holds(s.allOn(h1))

	p := s.announcing(h1)
	s.exits(s.announce(h1), 1, soon) // already running
	s.signal(p, syscall.SIGTERM)
	s.exits(p, 0, soon)
	s.holds(s.allOn(h1))

	p = s.announcing(h1, "-remove-pre-existing-ip")
	s.signal(p, syscall.SIGTERM)
	s.exits(p, 0, soon)
	s.holds(s.notOn(h1))
}

// TestAnnounceBesideAnAgent announces the address of an instance on the same host. The
// instance goes on as if nothing had been.
func TestAnnounceBesideAnAgent(t *testing.T) {
	s := newScene(t)
	owner := s.startAll(config{})[0]
	p := s.announcing(owner.Host)
	s.signal(p, syscall.SIGTERM)
	s.exits(p, 0, soon)
	s.running(owner)
	s.holds(s.ownedBy(owner.Host))
	s.exits(s.announce(s.Servers[1]), 5, soon)
	s.holds(s.ownedBy(owner.Host))
	s.Empty(logged(owner, "address conflict"))
}

// TestAnnouncerPaused freezes an announcer until the kernel has removed the address, and
// another one has it. It gives up when it goes on, and claims nothing.
func TestAnnouncerPaused(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			s := newSceneOfFamily(t, sharedLab(t), f)
			h1, h2 := s.Servers[0], s.Servers[1]
			p := s.announcing(h1, "-interval=100ms", "-jitter=0")
			s.freeze(p)
			s.awaitWithin(lifetimeOver, s.notOn(h1))
			second := s.announcing(h2)
			s.signal(p, syscall.SIGCONT)
			s.exits(p, 5, soon)
			s.running(second)
			s.await(s.answeredBy(h2))
		})
	}
}
