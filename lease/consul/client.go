// Package consul is the part of Consul's HTTP API that consul-vip uses. It is the
// only package that talks to Consul; what the keys mean is package state's.
//
// A [Client] gives every request a deadline of its own, because a query can hang
// for 20 s and more while a leader freezes. Many writes travel in one transaction
// ([Client.Commit]); one blocking query follows all keys ([Client.Follow]). A
// refused request reports itself to the [ACLChecker], which finds out whether the
// token lacks a permission.
//
// A Client starts goroutines only for transactions under way; [Client.Close] joins
// them. Everything in this package is safe for concurrent use unless it says
// otherwise.
package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// MaxConns is the most connections to the Consul agent that one process uses,
// whatever the number of locks: one each for the watch, the renewals and the
// check, two for writes and single reads. An agent grants 200 to each client
// address (http_max_conns_per_client).
const MaxConns = 5

// maxWrites is the part of MaxConns for writes and single reads.
const maxWrites = 2

// The deadlines of requests. A hanging request must not outlive the next try.
const (
	renewTimeout = 3 * time.Second
	writeTimeout = 5 * time.Second
	readTimeout  = 5 * time.Second
)

// errNoConsul is an answer that Consul does not give: a proxy, a wrong port, a
// broken agent.
var errNoConsul = errors.New("the answer is not Consul's")

// Client sends requests to the local Consul agent. Create it with [New] or
// [Flags.Connect].
type Client struct {
	api    *api.Client
	writer *writer
	denied denials

	tenancy      tenancy
	datacenter   string      // empty: the local agent's
	tokenChanged latest.Wake // nil where the token never changes
}

// New returns a Client that uses client, whose transport should be limited to
// MaxConns connections and wrapped by [Transport]. A receive from tokenChanged,
// which may be nil, means that requests now carry another ACL token.
func New(client *api.Client, tokenChanged latest.Wake) *Client {
	denied := newDenials()
	return &Client{api: client, writer: newWriter(client, denied), denied: denied, tokenChanged: tokenChanged}
}

// Close ends the transactions under way and waits for them.
func (c *Client) Close() { c.writer.close() }

// TokenChanged reports whether the ACL token has changed since the last call.
func (c *Client) TokenChanged() bool {
	select {
	case <-c.tokenChanged:
		return true
	default:
		return false
	}
}

// Agent is what the local agent says about itself.
type Agent struct {
	NodeName   string
	Datacenter string
	Server     bool
	// LeaveOnTerm: stopping the agent makes it leave the cluster, which ends the
	// sessions of its node.
	LeaveOnTerm bool
}

// Agent asks the local agent about itself.
func (c *Client) Agent(ctx context.Context) (Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var self struct {
		Config struct {
			NodeName   string
			Datacenter string
			Server     bool
		}
		DebugConfig struct{ LeaveOnTerm bool }
	}
	_, err := c.api.Raw().Query("/v1/agent/self", &self, query(ctx))
	if err == nil && self.Config.NodeName == "" {
		err = errNoConsul
	}
	if err != nil {
		return Agent{}, c.failed("asking the agent for its node name", err)
	}
	return Agent{self.Config.NodeName, self.Config.Datacenter, self.Config.Server, self.DebugConfig.LeaveOnTerm}, nil
}

// failed wraps err and reports a refusal to the ACL checker.
func (c *Client) failed(activity string, err error) error {
	if HTTPStatus(err) == http.StatusForbidden {
		c.denied.report(err)
	}
	return fmt.Errorf("%s: %w", activity, err)
}

// HTTPStatus returns the status with which Consul refused a request, or 0.
func HTTPStatus(err error) int {
	var status api.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

func query(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{}).WithContext(ctx)
}

// consistent reads from a leader that has made sure that it is the leader.
func consistent(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}

func write(ctx context.Context) *api.WriteOptions {
	return (&api.WriteOptions{}).WithContext(ctx)
}
