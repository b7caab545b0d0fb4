package lease

import (
	"errors"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
)

// beat is how often the TTL check is refreshed.
func (k *Keeper) beat() time.Duration { return k.cfg.CheckTTL / 3 }

// refreshCheck tells the local agent that this process is alive, until the
// session ends. This check, not the session's TTL, is what detects a dead or
// frozen process: an agent-side TTL has no 10 s floor, and once it runs out
// the session ends within milliseconds.
func (k *Keeper) refreshCheck(s *session) {
	outage := outage{log: k.log, what: "refreshing the check"}
	stale := false
	for sleep(s.ctx, k.beat()) {
		err := k.consul.pass(s.ctx, k.checkID, k.beat())
		stale = stale || k.tokenChanged()
		if stale || unknownCheck(err) {
			// The agent reports the check under the token that it was registered with:
			// once that is deleted, Consul would not hear that the check has run out. Or
			// the agent lost its state. If it learns of the service again before it
			// reconciles with the catalog, the session survives.
			err = k.consul.register(s.ctx, k.cfg.Service, k.checkID, k.cfg.Version, k.cfg.CheckTTL)
			if err == nil {
				stale = false
				err = k.consul.pass(s.ctx, k.checkID, k.beat())
			}
		}
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			outage.failed(err)
		default:
			outage.ok()
		}
	}
}

// tokenChanged reports whether the ACL token has changed since it was last called.
func (k *Keeper) tokenChanged() bool {
	select {
	case <-k.cfg.TokenChanged:
		return true
	default:
		return false
	}
}

func unknownCheck(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}
