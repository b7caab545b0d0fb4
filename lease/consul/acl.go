package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// authorizePath answers whether the token of the request has certain permissions,
// to POST only.
const authorizePath = "/v1/internal/acl/authorize"

var (
	// ErrUnknownToken means that the ACL token does not exist in Consul.
	ErrUnknownToken = errors.New("the ACL token is not known to Consul")
	// errUnanswered is an older Consul, or a proxy that lets only some requests pass.
	errUnanswered = errors.New("this Consul does not say which permissions the ACL token has")
)

// Transport wraps what a Client sends its requests through. Without it a Client
// works the same but cannot tell which permission the ACL token lacks: Consul
// takes that question by POST, which api.Client cannot send.
func Transport(base http.RoundTripper) http.RoundTripper { return transport{base} }

type transport struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == authorizePath {
		r = r.Clone(r.Context())
		r.Method = http.MethodPost
	}
	return t.RoundTripper.RoundTrip(r)
}

// Permission is something that the ACL token has to allow, in the words of
// Consul's authorization endpoint.
type Permission struct{ Resource, Access, Segment string }

// question is a Permission as Consul is asked about it.
type question struct {
	Permission
	tenancy
}

// Lacking returns those of permissions that the token does not have; none where
// ACLs are off. It asks for what the local agent knows, which a client agent
// caches for up to 30 s. The error is ErrUnknownToken for a token that does not
// exist.
func (c *Client) Lacking(ctx context.Context, permissions []Permission) ([]Permission, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	ctx, free, err := c.writer.slot(ctx)
	if err != nil {
		return nil, fmt.Errorf("checking the token's permissions: %w", err)
	}
	defer free()
	var (
		asked   []question
		answers []struct{ Allow bool }
	)
	for _, p := range permissions {
		asked = append(asked, question{p, c.tenancy})
	}
	_, err = c.api.Raw().Write(authorizePath, asked, &answers, write(ctx))
	switch {
	case err != nil:
		return nil, c.unanswered(ctx, err)
	case len(answers) != len(permissions):
		return nil, errUnanswered
	}
	var lacking []Permission
	for i, p := range permissions {
		if !answers[i].Allow {
			lacking = append(lacking, p)
		}
	}
	return lacking, nil
}

// unanswered finds out why there was no answer: nil where ACLs are off.
func (c *Client) unanswered(ctx context.Context, err error) error {
	switch HTTPStatus(err) {
	case http.StatusUnauthorized:
		return nil
	case http.StatusForbidden:
		// Every token may read itself.
		if _, _, err := c.api.ACL().TokenReadSelf(query(ctx)); HTTPStatus(err) == http.StatusForbidden {
			return ErrUnknownToken
		}
		return errUnanswered
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return errUnanswered
	}
	return fmt.Errorf("checking the token's permissions: %w", err)
}

// Rules are the rules to add to the token's policy, as a policy has them, each as
// one line for people. They are part of the message because the log would escape
// the quotes of a value.
func Rules(lacking []Permission) []string {
	var rules []string
	add := func(kind, name, policy string) {
		rules = append(rules, fmt.Sprintf("missing ACL permission: %s %q { policy = %q }", kind, name, policy))
	}
	session := map[string]string{} // segment by access
	for _, p := range lacking {
		switch p.Resource {
		case "key":
			add("key_prefix", p.Segment, p.Access)
		case "agent":
			add("agent_prefix", "", p.Access)
		case "session":
			session[p.Access] = p.Segment
		default:
			add(p.Resource, p.Segment, p.Access)
		}
	}
	_, reads := session["read"]
	node, writes := session["write"]
	switch {
	case reads && writes: // one rule for both
		add("session_prefix", "", "write")
	case reads:
		add("session_prefix", "", "read")
	case writes && node != "":
		add("session", node, "write")
	}
	return rules
}

// MayLackPermission reports whether a missing permission may be the reason for
// err.
func MayLackPermission(err error) bool {
	return errors.Is(err, ErrConflict) || errors.Is(err, ErrFiltered) || HTTPStatus(err) == http.StatusForbidden
}
