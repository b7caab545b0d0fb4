package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Cluster is a Consul cluster.
type Cluster struct {
	Servers []*ConsulAgent
	// Agents are those of h1, h2 and h3: the servers, or clients of these.
	Agents []*ConsulAgent
}

// startCluster starts Consul on the hosts and waits until the cluster is ready.
func startCluster(ctx context.Context, bin string, config ClusterConfig, hosts Hosts) (*Cluster, error) {
	c := new(Cluster)
	on := hosts.Servers
	if config.ClientAgents {
		on = hosts.ConsulServers
	}
	var join []string
	for _, h := range on {
		join = append(join, h.serf())
	}
	for _, h := range on {
		s, err := newConsulAgent(bin, h, config.Token, config.server(h, join))
		if err != nil {
			return nil, err
		}
		c.Servers = append(c.Servers, s)
	}
	c.Agents = c.Servers
	if config.ClientAgents {
		c.Agents = nil
		for _, h := range hosts.Servers {
			a, err := newConsulAgent(bin, h, config.Token, config.agent(h, join))
			if err != nil {
				return nil, err
			}
			c.Agents = append(c.Agents, a)
		}
	}
	for _, a := range c.All() {
		if err := a.Start(); err != nil {
			return nil, err
		}
	}
	return c, c.WaitReady(ctx)
}

// All returns every Consul agent, the servers first.
func (c *Cluster) All() []*ConsulAgent {
	all := slices.Clone(c.Servers)
	for _, a := range c.Agents {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// WaitReady waits until every agent knows a leader and counts as alive, and all servers
// are healthy and may vote.
func (c *Cluster) WaitReady(ctx context.Context) error {
	for _, a := range c.All() {
		if err := Await(ctx, func() error { return c.ready(a) }); err != nil {
			return fmt.Errorf("consul on %s: %w", a.Host.Name, err)
		}
	}
	return nil
}

// ready returns an error unless this agent takes the whole cluster for ready, and
// itself for a part of it.
func (c *Cluster) ready(a *ConsulAgent) error {
	for _, server := range c.Servers {
		// Without a join, an agent tries to reach a lost one only every 30 s.
		if err := a.API.Agent().Join(server.Host.serf(), false); err != nil {
			return err
		}
	}
	leader, err := a.API.Status().Leader()
	if err != nil {
		return err
	}
	if leader == "" {
		return errors.New("no leader yet")
	}
	health, err := a.API.Operator().AutopilotServerHealth(nil)
	if err != nil {
		return err
	}
	voters := 0
	for _, h := range health.Servers {
		if h.Healthy && h.Voter {
			voters++
		}
	}
	if voters != len(c.Servers) {
		return fmt.Errorf("%d of %d servers are ready", voters, len(c.Servers))
	}
	return a.alive()
}

// Leader returns the server that is the cluster's leader, as the first server that
// answers says.
func (c *Cluster) Leader() (*ConsulAgent, error) {
	var errs []error
	for _, asked := range c.Servers {
		leader, err := asked.API.Status().Leader()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, s := range c.Servers {
			if leader == netip.AddrPortFrom(s.Host.ConsulAddr, 8300).String() {
				return s, nil
			}
		}
	}
	return nil, errors.Join(append(errs, errors.New("the cluster has no leader"))...)
}

// Of returns the agent of a host, or nil.
func (c *Cluster) Of(h *Host) *ConsulAgent {
	for _, a := range c.All() {
		if a.Host == h {
			return a
		}
	}
	return nil
}
