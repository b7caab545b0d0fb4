package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sys/unix"
)

// Service is how the process is known to its local agent: a service with one TTL
// check of the same id. It must be a service's check: a critical check of the node
// would take all services of the node out of discovery.
type Service struct {
	ID      string // of the service and of its check
	Name    string
	Version string        // shown in the service's metadata
	TTL     time.Duration // within which the check must be refreshed
}

// Register registers the service with the local agent.
func (c *Client) Register(ctx context.Context, s Service) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := c.api.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID:   s.ID,
		Name: s.Name,
		Meta: map[string]string{"version": s.Version},

		Namespace: c.tenancy.Namespace,
		Partition: c.tenancy.Partition,
		Check: &api.AgentServiceCheck{
			CheckID: s.ID,
			Name:    "consul-vip is alive",
			TTL:     s.TTL.String(),
			// After a crash nothing else removes the service.
			DeregisterCriticalServiceAfter: "1m",
			// A service that is registered again with an agent that lost its state must
			// not end the session by a moment of being critical.
			Status: api.HealthPassing,
		},
	}, api.ServiceRegisterOpts{}.WithContext(ctx))
	if err != nil {
		return c.failed(fmt.Sprintf("registering service %q", s.ID), err)
	}
	return nil
}

// PassCheck refreshes the service's check. The output never changes, so the agent
// does not write it to the catalog, which would cost a Raft entry.
func (c *Client) PassCheck(ctx context.Context, id string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.api.Agent().UpdateTTLOpts(id, "alive", api.HealthPassing, query(ctx)); err != nil {
		return c.failed(fmt.Sprintf("refreshing check %q", id), err)
	}
	return nil
}

// UnknownCheck reports whether err means that the agent does not know the check,
// for example because it lost its state.
func UnknownCheck(err error) bool { return HTTPStatus(err) == http.StatusNotFound }

// NobodyListens reports whether err means that there is no agent at the address.
func NobodyListens(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) // a unix socket
}

// Deregister removes the service and its check from the local agent. Its deadline
// is the one of ctx.
func (c *Client) Deregister(ctx context.Context, id string) error {
	if err := c.api.Agent().ServiceDeregisterOpts(id, query(ctx)); err != nil {
		return c.failed(fmt.Sprintf("deregistering service %q", id), err)
	}
	return nil
}
