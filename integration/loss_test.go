package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// killsEnv is how often TestKilledUnderLoss kills the owner in each way.
const killsEnv = "INTEGRATION_KILLS"

// TestKilledUnderLoss kills the owner again and again while the switch loses frames. The
// old owner's kernel serves for some seconds more. However many of its answers are lost,
// no other host takes that for its silence: no question ever gets two answers.
func TestKilledUnderLoss(t *testing.T) {
	kills := numberOf(t, killsEnv, 2)
	for _, percent := range []int{1, 5} {
		for _, n := range []int{1, 100} {
			t.Run(fmt.Sprintf("%d %% lost, %d addresses", percent, n), func(t *testing.T) {
				// The observer must leave some time to the machine.
				every := max(everyAddress, time.Duration(n)*time.Millisecond/2)
				s := newSceneWith(t, sharedLabOf(t, lab.Clients), every, addrs(13, 1, n)...)
				s.startAll(config{})
				s.lose(percent)
				for range kills {
					owner := s.hosts()[s.vip]
					s.killed(owner)
					s.startStandby(owner, config{})
				}
			})
		}
	}
}

// killed kills the instance of a host and waits until the others have its addresses.
func (s *scene) killed(h *lab.Host) {
	s.t.Helper()
	s.NoError(s.instanceOn(h).Kill())
	s.awaitWithin(2*soon, s.allOnOthers(h))
}
