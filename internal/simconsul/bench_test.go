package simconsul

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/consul/api"
)

// BenchmarkRequests measures requests in a bubble: the mix of one process.
func BenchmarkRequests(b *testing.B) {
	requests := map[string]func(client *api.Client, c *Cluster) error{
		"renew": func(client *api.Client, c *Cluster) error {
			_, _, err := client.Session().Renew(c.Sessions()[0].ID, nil)
			return err
		},
		"check": func(client *api.Client, _ *Cluster) error { return client.Agent().UpdateTTL("s", "", "passing") },
		"put": func(client *api.Client, _ *Cluster) error {
			_, err := client.KV().Put(&api.KVPair{Key: "p/a", Value: fmt.Append(nil, rand.Int())}, nil)
			return err
		},
		"list": func(client *api.Client, _ *Cluster) error {
			_, _, err := client.KV().List("p/", &api.QueryOptions{RequireConsistent: true})
			return err
		},
	}
	for name, request := range requests {
		b.Run(name, func(b *testing.B) {
			const n = 5000
			for b.Loop() { // with the clock outside of the bubble
				synctest.Test(new(testing.T), func(*testing.T) { repeat(n, request) })
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n*b.N), "µs/request")
		})
	}
}

// repeat sends a request so many times, one after the other.
func repeat(n int, request func(client *api.Client, c *Cluster) error) {
	c := NewCluster(Config{Rand: rand.New(rand.NewPCG(1, 1))})
	defer c.Close()
	client := c.Agent("h1").Client(nil)
	_ = client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "s", Name: "s", Check: &api.AgentServiceCheck{CheckID: "s", TTL: "3s", Status: "passing"},
	})
	_, _ = c.CreateSession(Session{Name: "s", Node: "h1"})
	for i := range 20 {
		_ = c.Put(fmt.Sprint("p/", i), `{"state":"held","node":"h1","interface":"eth0","mac":"06:a4:92:26:13:30","since":"2026-11-22T05:11:37Z"}`)
	}
	for range n {
		if err := request(client, c); err != nil {
			panic(err)
		}
	}
}
