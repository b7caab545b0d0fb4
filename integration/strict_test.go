package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// longTTL is a session_ttl that no test waits for.
const longTTL = 40 * time.Second

// strict has a successor wait for the previous owner's TTL, and the first instance for
// that of an owner that may have been.
var strict = config{sessionTTL: longTTL, vip: `takeover = "strict"`}

// TestStrictLostReleased has the frame get lost by which the owner says that it has
// released the address. The successor waits for the owner's TTL, but still hears: the same
// frame, heard later, ends the wait.
func TestStrictLostReleased(t *testing.T) {
	s := newClientsScene(t)
	h1, h2 := s.Servers[0], s.Servers[1]
	owner := s.startOn(config{sessionTTL: longTTL}, h1)[0]
	successor := s.startStandby(h2, strict)
	hears := s.deafen(h2, h1)
	s.stop(owner)
	s.await(inState(successor, "acquired"))
	s.pass(calm)
	s.holds(s.unbound())

	lost := s.observer.Released(s.vip)
	s.NotNil(lost, "a released frame")
	hears()
	began := time.Now()
	s.NoError(h1.Send("eth0", lost.Frame()))
	s.awaitWithin(slack, s.ownedBy(h2))
	t.Logf("served %v after the frame", time.Since(began))
	s.seen(h1, h2)
}

// TestStrictUnknownRecord starts an instance where the lock says nothing of the previous
// owner. It waits for as long as that one could have a session.
func TestStrictUnknownRecord(t *testing.T) {
	t.Parallel()
	s := newClientsScene(t)
	s.put(lockKey(s.vip), "mine")
	p := s.start(s.Servers[0], strict)
	const waits = "waiting for the previous owner's TTL"
	s.await(logs(p, waits, 1))
	d, err := time.ParseDuration(logged(p, waits)[0].Get("for"))
	s.NoError(err)
	s.GreaterOrEqual(d, longTTL, "the wait for an unknown owner")
	s.pass(calm)
	s.holds(s.unbound())
}

// deafen drops the ARP frames that a host receives from another, before any program sees
// them, until hear or the end of the test.
func (s *scene) deafen(h, from *lab.Host) (hear func()) {
	s.t.Helper()
	return s.filterFrames(h, fmt.Sprintf("type filter hook ingress device \"eth0\" priority 0; ether saddr %s ether type arp drop", from.MAC))
}

// filterFrames filters frames of a host by a chain of nftables, until undo or the end of
// the test.
func (s *scene) filterFrames(h *lab.Host, chain string) (undo func()) {
	s.t.Helper()
	s.NoError(h.Filter(s.t.Context(), fmt.Sprintf("table netdev test {\n chain frames {\n %s\n }\n}\n", chain)))
	there := true
	undo = func() {
		if there {
			there = false
			s.NoError(h.Filter(context.Background(), "delete table netdev test\n"))
		}
	}
	s.t.Cleanup(undo)
	return undo
}
