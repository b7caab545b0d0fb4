package integration

import (
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestOtherDatacenter starts an instance for another datacenter than its agent's: its
// check and its session would not be in the same one. It says so and ends.
func TestOtherDatacenter(t *testing.T) {
	s := newClientsScene(t)
	h1 := s.Servers[0]
	file := s.configure(h1, s.hcl(config{}))
	p := s.startAs(h1, lab.Command{Args: []string{s.ConsulVIP, "agent", "-config=" + file, "-datacenter=elsewhere"}})
	s.awaitWithin(soon, ended(p))
	code, err := p.Wait(t.Context())
	s.NoError(err)
	s.Contains([]int{2, 3}, code, "the exit code of a usage or a configuration error")
	for _, name := range []string{"elsewhere", "dc1"} {
		s.Contains(p.String(), name, "both datacenters are named")
	}
	s.Nil(s.get(lockKey(s.vip)))
}
