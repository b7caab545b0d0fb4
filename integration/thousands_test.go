package integration

import (
	"net/netip"
	"testing"
	"time"

	"github.com/consul-vip/consul-vip/integration/lab"
)

const (
	// addressesEnv is the number of addresses of TestThousandsOfAddresses.
	addressesEnv = "INTEGRATION_ADDRESSES"
	// eachUp is a generous time for one address of many to come up.
	eachUp = 100 * time.Millisecond
)

// TestThousandsOfAddresses starts three instances at once with many addresses. All come
// up, however long it takes, and no process ends.
func TestThousandsOfAddresses(t *testing.T) {
	n := numberOf(t, addressesEnv, 1500)
	var vips []netip.Addr
	for i := range n {
		vips = append(vips, addr(10, 77, byte(128+i/250), byte(1+i%250)))
	}
	every := time.Duration(n) * 5 * time.Millisecond
	s := newSceneWith(t, sharedLabOf(t, lab.Clients), every, vips...)
	began := time.Now()
	procs := s.startOnEach()
	s.awaitWithin(soon+time.Duration(n)*eachUp, s.allUp(procs))
	t.Logf("%d addresses up after %v: %v", n, time.Since(began), s.spread())
	s.pass(2 * deadMan)
	s.running(procs...)
	s.holds(s.allBound())
}

// allUp is met when every address is bound. It fails the test if a process has ended. It
// looks rarely, because looking at so many addresses takes the CPU from the instances.
func (s *scene) allUp(procs []*lab.Process) condition {
	all := s.allBound()
	return condition{all.expected, func() error {
		s.pass(time.Second / 2)
		s.running(procs...)
		return all.seen()
	}}
}
