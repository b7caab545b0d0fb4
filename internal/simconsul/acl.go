package simconsul

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
)

const (
	errUnknownToken = consulError("ACL not found")
	errDenied       = consulError("Permission denied")
	errACLsOff      = consulError("ACL support disabled")
)

// Token is what an ACL token may do: "deny" (the default), "read" or "write".
type Token struct {
	Keys                      map[string]string // by prefix; the longest one counts
	Sessions, Services, Agent string
}

// FullToken returns a token that may do everything.
func FullToken() Token {
	return Token{Keys: map[string]string{"": "write"}, Sessions: "write", Services: "write", Agent: "write"}
}

// SetToken makes a token, or gives it other permissions, and turns ACLs on. The empty
// secret is the anonymous token.
func (c *Cluster) SetToken(secret string, t Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens == nil {
		c.tokens = map[string]Token{"": {}}
	}
	t.Keys = maps.Clone(t.Keys)
	c.tokens[secret] = t
	c.logf("token %q: %+v", secret, t)
}

// DeleteToken makes a token unknown.
func (c *Cluster) DeleteToken(secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tokens, secret)
	c.logf("token %q deleted", secret)
}

// DisableACLs turns ACLs off and forgets all tokens.
func (c *Cluster) DisableACLs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens = nil
	c.logf("ACLs disabled")
}

// denies returns why a token may not do something. The caller holds mu.
func (c *Cluster) denies(token string, may func(Token) bool) error {
	if c.tokens == nil {
		return nil
	}
	t, ok := c.tokens[token]
	switch {
	case !ok:
		return errUnknownToken
	case !may(t):
		return errDenied
	}
	return nil
}

// unknown is the refusal of a token that there is not. The caller holds mu.
func (c *Cluster) unknown(token string) error {
	return c.denies(token, func(Token) bool { return true })
}

// allows reports whether a policy grants an access.
func allows(policy, access string) bool { return policy == "write" || policy != "" && policy == access }

// key reports whether the token has this access to a key.
func (t Token) key(key, access string) bool {
	longest, policy := -1, ""
	for prefix, p := range t.Keys {
		if len(prefix) > longest && strings.HasPrefix(key, prefix) {
			longest, policy = len(prefix), p
		}
	}
	return allows(policy, access)
}

// denied is Consul's message about a missing permission.
func denied(err error, what, name string) error {
	if !errors.Is(err, errDenied) {
		return err
	}
	return fmt.Errorf("%w: token with AccessorID '00000000-0000-0000-0000-000000000002' lacks permission '%s' on %q", errDenied, what, name)
}

// permission is a question of the authorization endpoint.
type permission struct {
	Resource, Access string
	Segment          string `json:",omitempty"`
}

// authorized is its answer.
type authorized struct {
	permission
	Allow bool
}

func (c *Cluster) authorize(q Request) *answer {
	if q.Method != http.MethodPost {
		return notAllowed(q, http.MethodPost)
	}
	var asked []permission
	decoder := json.NewDecoder(bytes.NewReader(q.Body))
	decoder.DisallowUnknownFields()
	decoding := decoder.Decode(&asked)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens == nil {
		return plain(http.StatusUnauthorized, errACLsOff.Error())
	}
	t, ok := c.tokens[q.Token]
	switch {
	case decoding != nil:
		return plain(http.StatusBadRequest, "Failed to decode request body: "+decoding.Error())
	case len(asked) > 64:
		return plain(http.StatusBadRequest, "Refusing to process more than 64 authorizations at once")
	case !ok:
		return failure(errUnknownToken)
	}
	answers := []authorized{}
	for _, p := range asked {
		answers = append(answers, authorized{p, t.may(p)})
	}
	return ok200(answers)
}

func (t Token) may(p permission) bool {
	switch p.Resource {
	case "key":
		return t.key(p.Segment, p.Access)
	case "session":
		return allows(t.Sessions, p.Access)
	case "service":
		return allows(t.Services, p.Access)
	case "agent":
		return allows(t.Agent, p.Access)
	}
	return false
}

// tokenSelf answers what the token is.
func (c *Cluster) tokenSelf(q Request) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens == nil {
		return plain(http.StatusUnauthorized, errACLsOff.Error())
	}
	if _, ok := c.tokens[q.Token]; !ok {
		return failure(errUnknownToken)
	}
	return ok200(map[string]string{"AccessorID": "00000000-0000-0000-0000-000000000002"})
}
