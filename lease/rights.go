package lease

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// auditPause is the least time between two questions about the ACL token's rights.
const auditPause = 5 * time.Second

// authorizePath answers, to POST only, whether the token of the request has
// certain rights.
const authorizePath = "/v1/internal/acl/authorize"

var (
	errUnknownToken = errors.New("the ACL token is not known to Consul")
	// errUnanswered is an older Consul, or a proxy that lets only some requests through.
	errUnanswered = errors.New("this Consul does not say which rights the ACL token has")
)

// Transport wraps what a Keeper's Client sends its requests through. Without it
// the Keeper does everything the same but cannot say which right the ACL token
// lacks: Consul takes that question by POST, which api.Client has no way to send.
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

// right is something that the ACL token has to allow, in the words of Consul's
// authorization endpoint.
type right struct{ Resource, Access, Segment string }

// lacking returns those of rights that the token does not have; none where ACLs
// are off. It asks what the local agent knows, which a client agent caches for
// up to 30 s.
func (c *consul) lacking(ctx context.Context, rights []right) ([]right, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	free, err := c.slot(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the token's rights: %w", err)
	}
	defer free()
	var answers []struct{ Allow bool }
	_, err = c.client.Raw().Write(authorizePath, rights, &answers, write(ctx))
	switch {
	case err != nil:
		return nil, c.unanswered(ctx, err)
	case len(answers) != len(rights):
		return nil, errUnanswered
	}
	var missing []right
	for i, r := range rights {
		if !answers[i].Allow {
			missing = append(missing, r)
		}
	}
	return missing, nil
}

// unanswered makes out why there was no answer: nil where it is that ACLs are off.
func (c *consul) unanswered(ctx context.Context, err error) error {
	switch httpStatus(err) {
	case http.StatusUnauthorized:
		return nil
	case http.StatusForbidden:
		// Every token may read itself.
		if _, _, err := c.client.ACL().TokenReadSelf(query(ctx)); httpStatus(err) == http.StatusForbidden {
			return errUnknownToken
		}
		return errUnanswered
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return errUnanswered
	}
	return fmt.Errorf("asking for the token's rights: %w", err)
}

// suspicion says that a right that the token lacks may be why Consul has refused
// something. It is safe for concurrent use.
type suspicion chan error

func newSuspicion() suspicion { return make(suspicion, 1) }

// raise never blocks: one that nobody has looked into yet is enough.
func (s suspicion) raise(err error) {
	select {
	case s <- err:
	default:
	}
}

// audit tells the operator which rights the ACL token lacks, once each time it
// comes to lack one. It is asked for at the start, and whenever Consul refuses
// something: a transaction is refused for want of a right as for any other
// reason, and a list is just empty.
type audit struct {
	log    hclog.Logger
	cfg    Config
	consul *consul
	node   atomic.Pointer[string] // Consul's name for the node, once it is known
	said   []string
	silent int // how often Consul has refused something and not said why
}

func newAudit(cfg Config, c *consul) *audit {
	return &audit{log: cfg.Logger, cfg: cfg, consul: c}
}

// identified has everything looked at for the first time.
func (a *audit) identified(agentNode string) {
	a.node.Store(&agentNode)
	a.consul.suspicion.raise(nil)
}

// run looks into suspicions until ctx ends, and as long as something is missing
// without any.
func (a *audit) run(ctx context.Context) {
	for {
		var why error
		if len(a.said) == 0 {
			select {
			case why = <-a.consul.suspicion:
			case <-ctx.Done():
				return
			}
		}
		a.look(ctx, why)
		if !sleep(ctx, auditPause) {
			return
		}
	}
}

func (a *audit) look(ctx context.Context, why error) {
	missing, err := a.consul.lacking(ctx, a.needed())
	switch {
	case err == nil:
		a.report(missingRules(missing))
	case errors.Is(err, errUnknownToken):
		a.report([]string{err.Error() + ": it was deleted, has expired or is misspelt"})
	case errors.Is(err, errUnanswered) && httpStatus(why) == http.StatusForbidden:
		// Once may be a token so new that not every server knows it yet.
		if a.silent++; a.silent != 2 {
			return
		}
		a.log.Error("the ACL token lacks a right, and this Consul does not say which", "refused", why, "error", err)
	default: // Consul is away, which others notice
		a.log.Debug("could not find out which rights the ACL token has", "error", err)
	}
}

// report says what has not been said yet, and that nothing is missing any more.
func (a *audit) report(found []string) {
	for _, line := range found {
		if !slices.Contains(a.said, line) {
			a.log.Error(line)
		}
	}
	if len(found) == 0 && len(a.said) > 0 {
		a.log.Info("the ACL token has all the rights it needs now")
	}
	a.said, a.silent = found, 0
}

// needed is what examples/acl-policy.hcl allows, as far as this configuration needs it.
func (a *audit) needed() []right {
	node := "" // the agent did not even tell its name
	if known := a.node.Load(); known != nil {
		node = *known
	}
	rights := []right{
		{"key", "write", a.cfg.Prefix + "/"},
		{"session", "read", ""},
		{"session", "write", node},
		{"agent", "read", node},
	}
	if a.cfg.CheckTTL > 0 {
		rights = append(rights, right{"service", "write", a.cfg.Service})
	}
	return rights
}

// missingRules names the rules to add, as a policy has them. They are part of the
// message because the log would escape the quotes of a value.
func missingRules(missing []right) []string {
	var found []string
	add := func(kind, name, policy string) {
		found = append(found, fmt.Sprintf("missing ACL right: %s %q { policy = %q }", kind, name, policy))
	}
	session := map[string]string{} // segment by access
	for _, r := range missing {
		switch r.Resource {
		case "key":
			add("key_prefix", r.Segment, r.Access)
		case "agent":
			add("agent_prefix", "", r.Access)
		case "session":
			session[r.Access] = r.Segment
		default:
			add(r.Resource, r.Segment, r.Access)
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
	return found
}

// httpStatus returns the status with which Consul refused a request, or 0.
func httpStatus(err error) int {
	var status api.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}
