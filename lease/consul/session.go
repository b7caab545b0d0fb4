package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
)

// ErrNoSession means that Consul has confirmed that a session does not exist.
var ErrNoSession = errors.New("no such session in Consul")

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

type serviceCheck struct {
	ID        string
	Namespace string `json:",omitempty"`
}

// CreateSession creates a session that ends with the node's serfHealth and, where
// checkID is not empty, with that check. It fails while the check has not reached
// the catalog, which takes milliseconds.
func (c *Client) CreateSession(ctx context.Context, name, checkID string, ttl time.Duration) (id string, err error) {
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
		body.ServiceChecks = []serviceCheck{{checkID, c.tenancy.Namespace}}
	}
	var out struct{ ID string }
	if _, err := c.api.Raw().Write("/v1/session/create", body, &out, write(ctx)); err != nil {
		return "", c.failed("creating the session", err)
	}
	if out.ID == "" {
		return "", fmt.Errorf("creating the session: %w", errNoConsul)
	}
	return out.ID, nil
}

// RenewSession renews a session; that costs no Raft write. The error is
// ErrNoSession only where Consul itself confirms that the session is gone. Any
// other failure may pass.
func (c *Client) RenewSession(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	var entries []struct{ ID string }
	// api.Session.Renew does not tell the status of a refusal.
	_, err := c.api.Raw().Write("/v1/session/renew/"+id, nil, &entries, write(ctx))
	switch {
	case HTTPStatus(err) == http.StatusNotFound, err == nil && len(entries) == 0:
		return c.confirmGone(ctx, id)
	case err != nil:
		return c.failed("renewing the session", err)
	case entries[0].ID != id:
		return fmt.Errorf("renewing the session: %w", errNoConsul)
	}
	return nil
}

// confirmGone asks again, because a 404 or an empty list may also be the answer
// of a proxy in front of Consul.
func (c *Client) confirmGone(ctx context.Context, id string) error {
	entry, meta, err := c.api.Session().Info(id, consistent(ctx))
	switch {
	case err != nil:
		return c.failed("looking for the session", err)
	case entry != nil || meta.LastIndex == 0:
		return fmt.Errorf("looking for the session: %w", errNoConsul)
	}
	return ErrNoSession
}

// DestroySession ends a session and with it every lock under it. A session that
// does not exist is no error. The deadline of the request is 5 s or the one of ctx.
func (c *Client) DestroySession(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if _, err := c.api.Session().Destroy(id, write(ctx)); err != nil {
		return c.failed("destroying session "+id, err)
	}
	return nil
}

// Session is what Consul knows about a session. The zero Session does not exist.
type Session struct {
	Name string
	Node string // of Consul's, on which it was created
}

// Session reads a session. One that does not exist is the zero Session.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	entry, _, err := c.api.Session().Info(id, consistent(ctx))
	switch {
	case err != nil:
		return Session{}, c.failed("reading session "+id, err)
	case entry == nil:
		return Session{}, nil
	}
	return Session{entry.Name, entry.Node}, nil
}
