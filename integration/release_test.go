package integration

import (
	"fmt"
	"testing"
)

// TestReleaseKey asks the owner for the address by a key. A request to another
// node changes nothing.
func TestReleaseKey(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	procs := s.startAll(config{})
	h1 := procs[0].Host
	tenure := s.tenure(procs[0])
	s.put(releaseKey(s.vip), procs[1].Host.Name)
	s.pass(calm)
	tenure.unbroken()

	s.put(releaseKey(s.vip), h1.Name)
	next := s.takenOver(h1)
	s.Nil(s.get(releaseKey(s.vip)), "the request is still there")
	s.seen(h1, next)
	s.running(procs...)
}

// TestReleaseKeyToConsulLock asks the only instance for the address. It lets go of
// it for "consul lock" and takes it back afterwards.
func TestReleaseKeyToConsulLock(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	lock := s.startConsulLock(s.Servers[2])
	s.put(releaseKey(s.vip), p.Host.Name)
	s.await(lock.holds())
	s.Nil(s.get(releaseKey(s.vip)), "the request is still there")
	s.holds(s.unbound())
	lock.release()
	s.awaitWithin(2*soon, s.ownedBy(p.Host))
	s.running(p)
}

// TestRelease has one of two addresses handed over by command. The other stays
// where it is.
func TestRelease(t *testing.T) {
	s := newScene(t)
	other := s.addNeighbour()
	procs := s.startAll(config{})
	index := s.index(other)
	h1 := procs[0].Host
	out := s.succeed(procs[2].Host, "release", s.vip.String())
	next := s.takenOver(h1)
	s.Regexp(fmt.Sprintf(`^%s: %s -> %s in %s\n$`, s.vip, h1.Name, next.Name, took), out)
	s.Equal(index, s.index(other), "the lock of %s was written to", other)
	s.running(procs...)
}

// TestReleaseWithoutOwner asks for an address that no instance has. No request is
// left behind.
func TestReleaseWithoutOwner(t *testing.T) {
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	s.stop(p)
	r := s.fail(p.Host, "release", s.vip.String())
	s.Contains(r.stderr, "no instance holds "+s.vip.String())
	s.Nil(s.get(releaseKey(s.vip)))
}

// TestReleaseToConsulLock has the only instance let go by command, while "consul
// lock" waits.
func TestReleaseToConsulLock(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := s.startOn(config{}, s.Servers[0])[0]
	lock := s.startConsulLock(s.Servers[2])
	out := s.succeed(p.Host, "release", s.vip.String())
	s.Contains(out, s.vip.String()+": "+p.Host.Name+" -> ")
	s.await(lock.holds())
	s.holds(s.unbound())
	lock.release()
	s.awaitWithin(2*soon, s.ownedBy(p.Host))
	s.running(p)
}

// TestReleaseAndHold keeps an address from all instances by command, gives it to
// "consul lock" and lets the instances have it again.
func TestReleaseAndHold(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	procs := s.startAll(config{})
	h1, h3 := procs[0].Host, procs[2].Host
	out := s.succeed(h3, "release", "-hold", s.vip.String())
	s.Regexp(fmt.Sprintf(`^%s: %s -> nobody in %s, and no node takes it until .consul-vip unpin`, s.vip, h1.Name, took), out)
	s.holds(s.unbound())
	s.Equal("-", s.pin())
	row := s.status(h1)
	s.Equal("free", row["state"])
	s.Contains(row["note"], "released by "+h1.Name)
	s.Contains(row["note"], "pinned to nobody")

	lock := s.startConsulLock(h3)
	s.await(lock.holds())
	lock.release()
	s.await(s.statusIs(h1, "free"))
	s.pass(calm)
	s.holds(s.unbound())

	out = s.succeed(h3, "unpin", s.vip.String())
	s.Regexp(fmt.Sprintf(`^%s: nobody -> h\d in %s, no longer pinned\n$`, s.vip, took), out)
	s.owner()
	s.running(procs...)
}
