package simconsul

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// TestConformity runs the table of requests against the simulation. A test in
// integration runs the same table against a real Consul.
func TestConformity(t *testing.T) {
	for _, acls := range []bool{false, true} {
		t.Run(fmt.Sprint("acls=", acls), func(t *testing.T) {
			for i := range conformity {
				one := conformity[i]
				if one.acls != acls {
					continue
				}
				t.Run(one.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := NewCluster(Config{Rand: rand.New(rand.NewPCG(3, 3))})
						defer c.Close()
						one.run(simulated(t, c, acls))
					})
				})
			}
		})
	}
}

// simulated is a conversation with the agent of h1.
func simulated(t *testing.T, c *Cluster, acls bool) *conversation {
	s := &conversation{T: t, Subject: Subject{Transport: c.Agent("h1").Transport(), Address: "consul.test", Node: "h1", Prefix: "conformity"}}
	if acls {
		tokens := 0
		s.Grant = func(token Token) string {
			tokens++
			secret := fmt.Sprint("token ", tokens)
			c.SetToken(secret, token)
			return secret
		}
		s.token = s.Grant(FullToken())
	}
	return s
}
