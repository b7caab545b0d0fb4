package lease

import (
	"time"

	"github.com/consul-vip/consul-vip/internal/failurelog"
	"github.com/consul-vip/consul-vip/lease/consul"
)

// checkInterval is how often the TTL check is refreshed.
func (k *Keeper) checkInterval() time.Duration { return k.cfg.CheckTTL / 3 }

func (k *Keeper) service() consul.Service {
	return consul.Service{ID: k.checkID, Name: k.cfg.Service, Version: k.cfg.Version, TTL: k.cfg.CheckTTL}
}

// refreshCheck tells the local agent that this process is alive, until the
// session ends. This check, not the session's TTL, detects a dead or frozen
// process: an agent's TTL check has no minimum of 10 s, and once it runs out the
// session ends within milliseconds.
func (k *Keeper) refreshCheck(s *session) {
	failures := failurelog.New(k.log, "refreshing the check")
	stale := false // the service must be registered again
	for consul.Sleep(s.ctx, k.checkInterval()) {
		err := k.consul.PassCheck(s.ctx, k.checkID, k.checkInterval())
		stale = stale || k.consul.TokenChanged()
		if stale || consul.UnknownCheck(err) {
			// The agent reports the check under the token of the registration: once that
			// token is deleted, Consul would not hear that the check has run out. Or the
			// agent lost its state: if it learns of the service again before it reconciles
			// with the catalog, the session survives.
			err = k.consul.Register(s.ctx, k.service())
			if err == nil {
				stale = false
				err = k.consul.PassCheck(s.ctx, k.checkID, k.checkInterval())
			}
		}
		if s.ctx.Err() != nil {
			return
		}
		failures.Record(err)
	}
}
