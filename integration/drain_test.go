package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// newDrainScene prepares a scene in which each host has two of six addresses.
func newDrainScene(t *testing.T) *scene {
	t.Helper()
	s := newSceneOf(t, 50*time.Millisecond, addrs(11, 1, 6)...)
	for i, vip := range s.vips {
		s.put(pinKey(vip), s.Servers[i/2].Name)
	}
	s.startOnEach()
	s.settled()
	for i, h := range s.Servers {
		s.await(s.onlyOn(h, s.vips[2*i:2*i+2]...))
	}
	for _, vip := range s.vips {
		s.remove(pinKey(vip)) // moves nothing
	}
	s.await(s.allAnnounced())
	return s
}

// drain drains a host by a key and waits until its addresses are elsewhere.
func (s *scene) drain(h *lab.Host) {
	s.t.Helper()
	s.put(drainKey(h.Name), `{"at":"2026-11-22T05:11:37Z"}`)
	s.await(s.allOnOthers(h))
	s.settled()
}

// TestDrainKey drains a host by a key. It hands its addresses over, and no other
// address is touched.
func TestDrainKey(t *testing.T) {
	s := newDrainScene(t)
	h1 := s.Servers[0]
	others := s.vips[2:]
	before := s.indexes()
	s.drain(h1)
	s.pass(calm)
	now := s.indexes()
	for i, vip := range others {
		owner := []string{s.Servers[1+i/2].Name}
		s.Equal(before[vip], now[vip], "the lock of %s was written to", vip)
		s.Equal(owner, lab.HostsOf(s.observer.Owned(vip)), "owners of %s", vip)
		s.Equal(owner, lab.HostsOf(s.observer.Announced(vip)), "hosts that announced %s", vip)
	}
	s.running(s.instances...)
}

// TestDrainOutlivesRestart restarts the instance of a drained host and stops another:
// the drained one still takes nothing.
func TestDrainOutlivesRestart(t *testing.T) {
	s := newDrainScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	s.drain(h1)
	s.stop(s.instanceOn(h1))
	p := s.start(h1, config{})
	s.await(logs(p, "not eligible", len(s.vips)))
	s.await(condition{h1.Name + " to be a member", func() error {
		_, err := s.priorities(h1)
		return err
	}})
	s.stop(s.instanceOn(h2))
	s.await(s.allOn(s.Servers[2], s.vips...))
	s.pass(calm)
	s.holds(s.allOn(s.Servers[2], s.vips...))
}

// TestUndrainKey undrains a host. It takes nothing back, but it takes over addresses
// that other hosts release.
func TestUndrainKey(t *testing.T) {
	s := newDrainScene(t)
	h1 := s.Servers[0]
	s.drain(h1)
	before := s.indexes()
	s.remove(drainKey(h1.Name))
	s.pass(calm)
	s.Equal(before, s.indexes(), "the locks were written to")
	for _, h := range s.Servers[1:] {
		s.stop(s.instanceOn(h))
	}
	s.await(s.allOn(h1, s.vips...))
}

// TestDrain drains a node by command. It keeps the address that is pinned to it.
func TestDrain(t *testing.T) {
	s := newSceneOf(t, everyAddress, addrs(8, 10, 3)...)
	h1, h2 := s.Servers[0], s.Servers[1]
	s.startOn(config{}, h1, h2)
	pinned := s.vips[2]
	s.put(pinKey(pinned), h1.Name)

	r := s.fail(h1, "drain") // the node of the agent itself
	for _, vip := range s.vips[:2] {
		s.Regexp(fmt.Sprintf(`(?m)^%s: %s -> %s in %s$`, vip, h1.Name, h2.Name, took), r.stdout)
	}
	s.Contains(r.stderr, fmt.Sprintf("%s keeps %s (pinned to %s)", h1.Name, pinned, h1.Name))
	s.await(s.onlyOn(h1, pinned))
	s.succeed(h2, "unpin", pinned.String())
	s.await(s.onlyOn(h1))
	s.await(s.allBound())
}

// TestUndrain stops the only other instance of a drained node. The addresses have no
// owner until the node is undrained by command.
func TestUndrain(t *testing.T) {
	s := newSceneOf(t, everyAddress, addrs(8, 20, 2)...)
	h1, h2 := s.Servers[0], s.Servers[1]
	procs := s.startOn(config{}, h1, h2)
	s.succeed(h2, "drain", "-node="+h1.Name)
	s.await(s.allOn(h2, s.vips...))
	s.stop(procs[1])
	s.pass(calm)
	s.holds(s.unbound())
	row := s.status(h2)
	s.Equal("free", row["state"])
	s.Contains(row["note"], "all members are drained")

	for _, want := range []string{h1.Name + " may take addresses again", h1.Name + " was not drained"} {
		s.Contains(s.succeed(h2, "undrain", "-node="+h1.Name), want)
	}
	s.await(s.allOn(h1, s.vips...))
	s.running(procs[0])
}

// TestDrainBeforehand drains a node that has no instance.
func TestDrainBeforehand(t *testing.T) {
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	tenure := s.tenure(p)
	out := s.succeed(p.Host, "drain", "-node=h9")
	s.Contains(out, "There is no instance h9 now; there are: "+p.Host.Name)
	s.NotNil(s.get(drainKey("h9")))
	tenure.unbroken()
}
