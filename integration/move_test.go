package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestPin moves an address by a key, as an operator does. Nothing exits.
func TestPin(t *testing.T) {
	s := newScene(t)
	procs := s.startAll(config{})
	for _, p := range []*lab.Process{procs[2], procs[1]} {
		s.put(pinKey(s.vip), p.Host.Name)
		s.await(s.ownedBy(p.Host))
	}
	s.running(procs...)
}

// TestPinWithoutOwner stops the owner to which an address is pinned. No other node
// takes the address until the pin is gone.
func TestPinWithoutOwner(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	procs := s.startAll(config{})
	h1, h2 := procs[0].Host, procs[1].Host
	s.put(pinKey(s.vip), h2.Name)
	s.await(s.ownedBy(h2)) // so it has seen the pin
	s.stop(procs[1])
	s.pass(calm)
	s.holds(s.unbound())
	s.remove(pinKey(s.vip))
	s.seen(h1, h2, s.takenOver(h2))
	s.running(procs[0], procs[2])
}

// TestPinToNobody takes an address away from all instances. They leave it to
// "consul lock", and take it back when the pin is gone.
func TestPinToNobody(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	procs := s.startAll(config{})
	s.put(pinKey(s.vip), "-")
	s.await(condition{"the lock to be released", func() error {
		pair, r, err := s.lock(s.vip)
		if err == nil && (pair.Session != "" || r.State != "released") {
			err = fmt.Errorf("%s with session %q", pair.Value, pair.Session)
		}
		return err
	}})
	s.holds(s.unbound())
	s.pass(calm)
	s.holds(s.unbound())

	lock := s.startConsulLock(procs[0].Host)
	s.await(lock.holds())
	lock.release()
	s.await(ended(lock.Process))
	s.pass(calm)
	s.holds(s.unbound())
	s.remove(pinKey(s.vip))
	s.owner()
	s.running(procs...)
}

// pin is the node that the address is pinned to, "" if it is not.
func (s *scene) pin() string {
	s.t.Helper()
	if pair := s.get(pinKey(s.vip)); pair != nil {
		return string(pair.Value)
	}
	return ""
}

// addNeighbour gives a scene another address before its instances are started.
func (s *scene) addNeighbour() netip.Addr {
	other := addr(10, 77, 8, 1)
	s.vips = append(s.vips, other)
	return other
}

// TestMove moves one of two addresses by command. Nothing exits, and the other
// address stays where it is.
func TestMove(t *testing.T) {
	inFamilies(t, func(_ *testing.T, s *scene, _ family) { s.moves() })
}

func (s *scene) moves() {
	s.t.Helper()
	other := s.addNeighbour()
	procs := s.startAll(config{})
	index := s.index(other)
	h1, h2, h3 := procs[0].Host, procs[1].Host, procs[2].Host

	uncommon := strings.ToUpper(s.vip.StringExpanded()) // all output has the canonical form
	out := s.succeed(h3, "move", uncommon, "-to="+h2.Name)
	unpin := fmt.Sprintf("`consul-vip unpin -prefix=%s %s`", s.name, s.vip)
	s.Regexp(fmt.Sprintf(`^%s: %s -> %s in %s, pinned there until %s\n$`, s.vip, h1.Name, h2.Name, took, unpin), out)
	s.await(s.ownedBy(h2))
	s.Equal(h2.Name, s.pin())
	row := s.status(h1)
	s.Equal("pinned to "+h2.Name, row["note"])
	s.Equal(h2.Name, row["pin"])
	s.Equal(index, s.index(other), "the lock of %s was written to", other)
	s.running(procs...)
}

// TestMoveRefused gives moves that are impossible. They change nothing.
func TestMoveRefused(t *testing.T) {
	s := newScene(t)
	h1 := s.startOn(config{}, s.Servers[:2]...)[0].Host
	index := s.index(s.vip)
	vip, unknown := s.vip.String(), addr(10, 77, 8, 2).String()
	for _, tt := range []struct {
		args     []string
		complain string
	}{
		{[]string{"--to", h1.Name, vip}, h1.Name + " already holds " + vip},
		{[]string{"--to", "h9", vip}, "h9 does not contend for " + vip},
		{[]string{unknown}, vip}, // the address that there is
	} {
		r := s.fail(h1, append([]string{"move"}, tt.args...)...)
		s.Empty(r.stdout)
		s.Contains(r.stderr, tt.complain)
		s.Empty(s.pin(), "nothing is written")
	}
	s.Equal(index, s.index(s.vip))
}

// TestMoveWithoutTarget moves an address to the best placed other node, and unpins
// it there.
func TestMoveWithoutTarget(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	h1 := s.startAll(config{})[0].Host
	out := s.succeed(h1, "move", s.vip.String())
	next := s.takenOver(h1)
	s.Contains(out, fmt.Sprintf("%s: %s -> %s", s.vip, h1.Name, next.Name))
	s.Equal(next.Name, s.pin())

	for _, want := range []string{next.Name + " holds it, no longer pinned", "was not pinned"} {
		s.Contains(s.succeed(h1, "unpin", s.vip.String()), want)
		s.Empty(s.pin())
	}
	s.pass(calm)
	s.await(s.ownedBy(next))
	s.seen(h1, next)
}

// TestMoveTimesOut moves from a node whose process is frozen. The long lifetime
// and the lack of a check keep the owner in its place until the command has given up.
func TestMoveTimesOut(t *testing.T) {
	s := newScene(t)
	procs := s.startAll(config{deadMan: longDeadMan, consul: `  check_ttl = "0s"`})
	h1, h2 := procs[0].Host, procs[1].Host
	s.freeze(procs[0])
	r := s.fail(h2, "move", s.vip.String(), "-to="+h2.Name, "-timeout=1s")
	s.signal(procs[0], syscall.SIGCONT)
	s.Empty(r.stdout)
	s.Contains(r.stderr, h1.Name+" holds it (pinned to "+h2.Name+")")
	s.Contains(r.stderr, "consul-vip unpin")
	s.Equal(h2.Name, s.pin(), "the pin stays")
	s.awaitWithin(2*soon, s.ownedBy(h2))
}
