package integration

import (
	"fmt"
	"testing"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// TestLockFiltered changes an owner's policy so that its token may read all keys but
// those of its address. Consul's list is then not empty, but lacks the lock. The owner
// does not take it for deleted.
func TestLockFiltered(t *testing.T) {
	t.Parallel()
	cluster := lab.Clients.Cluster()
	cluster.Token = managementToken
	s := newAccessScene(t, ownLab(t, cluster))
	h1, h2 := s.Servers[0], s.Servers[1]
	whole := example(t, "acl-policy.hcl")
	policy, token := s.grant(whole)
	procs := s.startOn(withToken(token.SecretID), h1)
	_, other := s.grant(whole)
	procs = append(procs, s.startStandby(h2, withToken(other.SecretID)))
	tenure := s.tenure(procs[0])

	s.change(policy, fmt.Sprintf("%s\nkey_prefix \"consul-vip/%s/\" { policy = \"deny\" }\n", whole, s.vip))
	s.pass(calm)
	s.put(drainKey("h9"), "") // something for the watch to see
	s.pass(calm)
	tenure.unbroken()
	s.change(policy, whole)
	s.pass(holdTime)
	tenure.unbroken()
	s.seen(h1)
	s.running(procs...)
}
