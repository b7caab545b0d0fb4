package lease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
)

// MaxConns is how many connections to the Consul agent a Keeper uses at most,
// whatever the number of locks: one each for the watch, the renewals and the
// check, two for writes and single reads. An agent grants 200 to each client address
// (http_max_conns_per_client). The client's transport should be limited to it.
const MaxConns = 5

const maxWrites = 2

// Every request carries a deadline: a query can hang for 20 s and more while
// a leader freezes, and what hangs must not outlive the next try.
const (
	renewTimeout = 3 * time.Second
	writeTimeout = 5 * time.Second
	readTimeout  = 5 * time.Second
	// A watch that was forwarded to a leader hangs when that leader's host dies:
	// nothing resets the connection between the servers. It is what a takeover
	// then waits for.
	watchWait = 3 * time.Second
	// The agent adds up to a 16th of the wait of its own.
	watchTimeout = watchWait + watchWait/16 + time.Second
)

// Answers that no Consul gives: a proxy, a wrong port, a broken agent.
var errNoConsul = errors.New("the answer is not Consul's")

// errFiltered is a list without what the ACL token may not read.
var errFiltered = errors.New("the ACL token may not read what is there")

// consul is the part of Consul's API that a Keeper uses, each request with its
// deadline. It is safe for concurrent use.
type consul struct {
	*committer
	client *api.Client
}

func newConsul(client *api.Client) *consul {
	return &consul{committer: newCommitter(client), client: client}
}

// agentSelf is what the local agent says of itself.
type agentSelf struct {
	Config struct {
		NodeName string
		Server   bool
	}
	DebugConfig struct{ LeaveOnTerm bool }
}

func (c *consul) self(ctx context.Context) (agentSelf, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var self agentSelf
	_, err := c.client.Raw().Query("/v1/agent/self", &self, query(ctx))
	if err == nil && self.Config.NodeName == "" {
		err = errNoConsul
	}
	if err != nil {
		return self, c.failed("asking the agent for its node name", err)
	}
	return self, nil
}

// register announces the process to the local agent as a service whose TTL
// check must be refreshed at least every ttl. It must be a service's check: a
// node's check gone critical would take all services of the node out of
// discovery.
func (c *consul) register(ctx context.Context, service, id, version string, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := c.client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID:   id,
		Name: service,
		Meta: map[string]string{"version": version},
		Check: &api.AgentServiceCheck{
			CheckID: id,
			Name:    "consul-vip is alive",
			TTL:     ttl.String(),
			// After a crash nobody else takes the service away.
			DeregisterCriticalServiceAfter: "1m",
			// Registered anew by an agent that lost its state, it must not end the
			// session by being critical for a moment.
			Status: api.HealthPassing,
		},
	}, api.ServiceRegisterOpts{}.WithContext(ctx))
	if err != nil {
		return c.failed(fmt.Sprintf("registering service %q", id), err)
	}
	return nil
}

// pass refreshes the TTL check. The output never changes, so the agent keeps
// it to itself and no Raft entry is written.
func (c *consul) pass(ctx context.Context, id string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.client.Agent().UpdateTTLOpts(id, "alive", api.HealthPassing, query(ctx)); err != nil {
		return c.failed(fmt.Sprintf("refreshing check %q", id), err)
	}
	return nil
}

func (c *consul) deregister(ctx context.Context, id string) error {
	if err := c.client.Agent().ServiceDeregisterOpts(id, query(ctx)); err != nil {
		return c.failed(fmt.Sprintf("deregistering service %q", id), err)
	}
	return nil
}

// sessionBody is written by hand because api.SessionEntry drops a LockDelay of
// zero, and Consul then makes it 15 s.
type sessionBody struct {
	Name          string
	LockDelay     string
	Behavior      string
	TTL           string
	NodeChecks    []string
	ServiceChecks []serviceCheck `json:",omitempty"`
}

type serviceCheck struct{ ID string }

// createSession creates a session that ends with the node's serfHealth and,
// where checkID is given, with that check. A check that has not reached the
// catalog yet makes it fail; that passes in milliseconds.
func (c *consul) createSession(ctx context.Context, name, checkID string, ttl time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	body := sessionBody{
		Name:       name,
		LockDelay:  "0s",
		Behavior:   api.SessionBehaviorRelease,
		TTL:        ttl.String(),
		NodeChecks: []string{"serfHealth"},
	}
	if checkID != "" {
		body.ServiceChecks = []serviceCheck{{ID: checkID}}
	}
	var out struct{ ID string }
	if _, err := c.client.Raw().Write("/v1/session/create", body, &out, write(ctx)); err != nil {
		return "", c.failed("creating the session", err)
	}
	if out.ID == "" {
		return "", fmt.Errorf("creating the session: %w", errNoConsul)
	}
	return out.ID, nil
}

// renewSession returns ErrSessionLost only where Consul itself confirms that
// the session is gone; whatever else goes wrong may pass.
func (c *consul) renewSession(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	var entries []struct{ ID string }
	// api.Session.Renew does not tell the status of what it was refused with.
	_, err := c.client.Raw().Write("/v1/session/renew/"+id, nil, &entries, write(ctx))
	switch {
	case httpStatus(err) == http.StatusNotFound, err == nil && len(entries) == 0:
		return c.confirmGone(ctx, id)
	case err != nil:
		return c.failed("renewing the session", err)
	case entries[0].ID != id:
		return fmt.Errorf("renewing the session: %w", errNoConsul)
	}
	return nil
}

// confirmGone asks again, because a 404 or an empty list may also be the
// answer of a proxy in front of Consul.
func (c *consul) confirmGone(ctx context.Context, id string) error {
	entry, meta, err := c.client.Session().Info(id, consistent(ctx))
	switch {
	case err != nil:
		return c.failed("looking for the session", err)
	case entry != nil || meta.LastIndex == 0:
		return fmt.Errorf("looking for the session: %w", errNoConsul)
	}
	return fmt.Errorf("%w: Consul does not know it any more", ErrSessionLost)
}

func (c *consul) destroySession(ctx context.Context, id string) error {
	if _, err := c.client.Session().Destroy(id, write(ctx)); err != nil {
		return c.failed("destroying session "+id, err)
	}
	return nil
}

// sessionInfo returns nil for a session that does not exist.
func (c *consul) sessionInfo(ctx context.Context, id string) (*api.SessionEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	entry, _, err := c.client.Session().Info(id, consistent(ctx))
	if err != nil {
		return nil, c.failed("reading session "+id, err)
	}
	return entry, nil
}

// list reads everything below prefix: at once for index 0, else as soon as
// something has changed since index, or after watchWait.
//
// The former asks a leader that has made sure that it is one. Else, once Consul
// has been restarted, the answer may be history: a new leader shows what it has
// replayed of its log so far, with locks and sessions of long ago.
func (c *consul) list(ctx context.Context, prefix string, index uint64) (api.KVPairs, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	options := &api.QueryOptions{WaitIndex: index, WaitTime: watchWait, RequireConsistent: index == 0}
	pairs, meta, err := c.client.KV().List(prefix, options.WithContext(ctx))
	if err != nil {
		return nil, 0, c.failed("watching "+prefix, err)
	}
	// An empty prefix is a 404 with an index; without one it is not Consul's.
	if meta.LastIndex == 0 {
		return nil, 0, fmt.Errorf("watching %s: %w", prefix, errNoConsul)
	}
	// An owner must not take it that its lock was deleted.
	if meta.ResultsFilteredByACLs && len(pairs) == 0 {
		c.suspicion.raise(errFiltered)
		return nil, 0, fmt.Errorf("watching %s: %w", prefix, errFiltered)
	}
	return pairs, meta.LastIndex, nil
}

// read returns nil for a key that does not exist. It asks a leader that has
// made sure that it is one.
func (c *consul) read(ctx context.Context, key string) (*api.KVPair, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	free, err := c.slot(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	defer free()
	pair, meta, err := c.client.KV().Get(key, consistent(ctx))
	switch {
	case err != nil:
		return nil, c.failed("reading "+key, err)
	case pair == nil && meta.LastIndex == 0:
		return nil, fmt.Errorf("reading %s: %w", key, errNoConsul)
	}
	return pair, nil
}

// failed has the token's rights looked into where err is that Consul refused.
func (c *consul) failed(what string, err error) error {
	if httpStatus(err) == http.StatusForbidden {
		c.suspicion.raise(err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func query(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{}).WithContext(ctx)
}

func consistent(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}

func write(ctx context.Context) *api.WriteOptions {
	return (&api.WriteOptions{}).WithContext(ctx)
}
