package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// debounce is how long an instance waits until a lost carrier counts.
const debounce = 500 * time.Millisecond

// TestStandbyLinkDown takes out the cable of a standby while its Consul stays reachable.
// From the carrier debounce on it is no successor: nothing that an operator does gives it
// the address, and the owner serves all the time.
func TestStandbyLinkDown(t *testing.T) {
	t.Run("moved to", func(t *testing.T) {
		s, tenure, standby := newStandbyLinkScene(t)
		r := s.fail(standby, "move", s.vip.String(), "-to="+standby.Name)
		s.Empty(r.stdout)
		s.Contains(r.stderr, standby.Name+" does not contend for "+s.vip.String())
		s.Empty(s.pin(), "nothing is written")
		s.pass(calm)
		tenure.unbroken()

		s.NoError(standby.Plug("eth0"))
		s.await(s.memberOn(standby))
		s.succeed(standby, "move", s.vip.String(), "-to="+standby.Name)
		s.await(s.ownedBy(standby))
	})
	t.Run("owner drained", func(t *testing.T) {
		s, tenure, standby := newStandbyLinkScene(t)
		owner := tenure.owner.Host
		r := s.fail(owner, "drain")
		s.Contains(r.stderr, fmt.Sprintf("%s keeps %s (no other member contends for it)", owner.Name, s.vip))
		s.pass(calm)
		tenure.unbroken()

		s.NoError(standby.Plug("eth0"))
		s.await(s.ownedBy(standby))
		s.running(tenure.owner)
	})
	t.Run("pinned to", func(t *testing.T) {
		s, tenure, standby := newStandbyLinkScene(t)
		s.put(pinKey(s.vip), standby.Name)
		s.pass(calm)
		tenure.unbroken()
	})
	t.Run("owner stopped", func(t *testing.T) {
		s, tenure, standby := newStandbyLinkScene(t)
		s.pass(calm) // until the owner has heard of it too
		s.stop(tenure.owner)
		_, r := s.lockOf(s.vip)
		s.Equal("released", r.State, "there is no successor")
		s.NoError(standby.Plug("eth0"))
		s.await(s.ownedBy(standby))
	})
}

// newStandbyLinkScene starts an owner and a standby and takes out the standby's cable.
func newStandbyLinkScene(t *testing.T) (s *scene, owner *tenure, standby *lab.Host) {
	t.Helper()
	s = newClientsScene(t)
	procs := s.startOn(config{}, s.Servers[:2]...)
	owner, standby = s.tenure(procs[0]), procs[1].Host
	s.unplug(standby, "eth0")
	began := time.Now()
	s.awaitWithin(debounce+slack, s.notMemberOn(standby))
	t.Logf("the standby left the members of the address %v after its cable was out", time.Since(began))
	return s, owner, standby
}

// notMemberOn is met when the instance of a host is a member that contends for none of
// the addresses.
func (s *scene) notMemberOn(h *lab.Host) condition {
	return condition{fmt.Sprintf("%s to contend for none of %v", h.Name, s.vips), func() error {
		contended, err := s.priorities(h)
		for vip := range contended {
			if err == nil && slices.Contains(s.vips, vip) {
				err = fmt.Errorf("its addresses %v", contended)
			}
		}
		return err
	}}
}
