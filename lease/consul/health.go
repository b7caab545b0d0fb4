package consul

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"
)

// ServiceHealth returns why a service that is registered with the local agent is not fit,
// in one line; empty: all its checks are passing or only warning. An error says nothing of
// the service: the agent did not answer. The agent has no blocking query for that
// (Consul's API documentation, "Get local service health").
func (c *Client) ServiceHealth(ctx context.Context, service string) (reason string, err error) {
	status, found, err := c.api.Agent().AgentHealthServiceByNameOpts(service, query(ctx))
	switch {
	case err != nil:
		return "", c.failed(fmt.Sprintf("asking the agent for the health of service %q", service), err)
	case status == api.HealthPassing, status == api.HealthWarning:
		return "", nil
	case len(found) == 0:
		return "it is not registered with this host's Consul agent", nil
	}
	for _, s := range found {
		for _, check := range s.Checks {
			if check.Status != api.HealthPassing && check.Status != api.HealthWarning {
				output, _, _ := strings.Cut(strings.TrimSpace(check.Output), "\n")
				output = strings.TrimSpace(output)
				return strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", cmp.Or(check.Name, check.CheckID), check.Status, output), ": "), nil
			}
		}
	}
	return "it is " + status, nil
}
