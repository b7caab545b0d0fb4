package consul

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// checkPause is the least time between two questions about the ACL token's
// permissions.
const checkPause = 5 * time.Second

// denials are refusals for which a missing permission may be the reason. They
// coalesce: one that nobody has looked into yet is enough. Safe for concurrent use.
type denials chan error

func newDenials() denials { return make(denials, 1) }

// report never blocks.
func (d denials) report(err error) {
	select {
	case d <- err:
	default:
	}
}

// ACLChecker logs which permissions the ACL token lacks, once each time it begins
// to lack one. It asks Consul when Check is first called, and whenever Consul
// refuses a request: Consul refuses a transaction in the same way for a missing
// permission as for any other reason, and answers with an empty list.
type ACLChecker struct {
	client *Client
	logger hclog.Logger
	needed latest.Latest[[]Permission]

	// Owned by the goroutine of Run.
	logged     []string // the lines of the last check
	unanswered int      // refusals that Consul did not explain
}

// NewACLChecker returns a checker of client's token. Needed are the permissions
// to check for until Check is called.
func NewACLChecker(client *Client, logger hclog.Logger, needed []Permission) *ACLChecker {
	a := &ACLChecker{client: client, logger: logger}
	a.needed.Set(needed)
	return a
}

// Check makes Run check for these permissions, now and from now on. It may be
// called from any goroutine.
func (a *ACLChecker) Check(needed []Permission) {
	a.needed.Set(needed)
	a.client.denied.report(nil)
}

// Run checks the permissions after each refusal until ctx ends, and every 5 s
// while one is missing. It returns nil.
func (a *ACLChecker) Run(ctx context.Context) error {
	for {
		var refused error
		if len(a.logged) == 0 {
			select {
			case refused = <-a.client.denied:
			case <-ctx.Done():
				return nil
			}
		}
		a.check(ctx, refused)
		if !Sleep(ctx, checkPause) {
			return nil
		}
	}
}

// check checks once, because of a refusal or without one.
func (a *ACLChecker) check(ctx context.Context, refused error) {
	needed, _ := a.needed.Get()
	lacking, err := a.client.Lacking(ctx, needed)
	switch {
	case err == nil:
		a.log(Rules(lacking))
	case errors.Is(err, ErrUnknownToken):
		a.log([]string{err.Error() + ": it was deleted, has expired or is misspelt"})
	case errors.Is(err, errUnanswered) && HTTPStatus(refused) == http.StatusForbidden:
		// The first may be a token so new that not every server knows it yet.
		if a.unanswered++; a.unanswered != 2 {
			return
		}
		a.logger.Error("the ACL token lacks a permission, and this Consul does not say which", "refused", refused, "error", err)
	default: // Consul is away; others log that
		a.logger.Debug("could not check the ACL token", "error", err)
	}
}

// log logs the lines that the last check did not have, and the return to none.
func (a *ACLChecker) log(lines []string) {
	for _, line := range lines {
		if !slices.Contains(a.logged, line) {
			a.logger.Error(line)
		}
	}
	if len(lines) == 0 && len(a.logged) > 0 {
		a.logger.Info("the ACL token now has all required permissions")
	}
	a.logged, a.unanswered = lines, 0
}
