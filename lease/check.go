package lease

import (
	"context"
	"time"

	"github.com/consul-vip/consul-vip/internal/failurelog"
	"github.com/consul-vip/consul-vip/lease/consul"
)

// The check lives in the local agent, and must survive a restart of it. Consul 1.22.3
// (agent.go: persistCheckState, loadChecks, loadCheckState) writes each refresh to the
// agent's data_dir, with the time at which it runs out in whole seconds, rounded down.
// An agent that starts finds the check passing until then, else critical, and its first
// synchronization with the servers, at once or up to 3 s later, ends the session of a
// critical check. So whatever happens, an agent may be away for CheckTTL less a second
// less the age of the last refresh: with the defaults, 3.5 s.
//
// If it is away for longer, the first refresh must reach it before the servers hear of
// the check: an agent that knows its servers of before tells them some 30 ms after it
// begins to listen. Nobody but the agent itself lets a check run out, so until then the
// session lives, for as long as Serf does not declare the host failed, which takes
// five seconds and more.
const (
	// longestCheckInterval is how often the check is refreshed at least. Each refresh is
	// a request to the local agent, which writes a small file without syncing it, and
	// tells the servers nothing.
	longestCheckInterval = 500 * time.Millisecond
	// longestCheckTry is the deadline of one try: an agent that hangs must not delay
	// the next one.
	longestCheckTry = time.Second
	// checkRetry is the longest pause after a failed try; the shortest is half of it.
	checkRetry = 100 * time.Millisecond
	// awaitRetry is the same while nobody listens at the agent's address, which a try
	// finds out within microseconds.
	awaitRetry = 10 * time.Millisecond
)

// checkInterval is how often the TTL check is refreshed.
func (k *Keeper) checkInterval() time.Duration { return min(k.cfg.CheckTTL/3, longestCheckInterval) }

// checkTry is the deadline of one refresh.
func (k *Keeper) checkTry() time.Duration { return min(k.cfg.CheckTTL/3, longestCheckTry) }

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
	passed := k.now()
	for pause := k.checkInterval(); consul.Sleep(s.ctx, pause); {
		stale = stale || k.consul.TokenChanged()
		err := k.passCheck(s.ctx, &stale)
		if s.ctx.Err() != nil {
			return
		}
		if err == nil {
			passed = k.now()
		}
		last := pause
		if pause = k.checkPause(err, k.now()-passed); last > awaitRetry || pause > awaitRetry {
			failures.Record(err) // not every one of a hundred in a second
		}
	}
}

// passCheck refreshes the check. It registers the service again first if it is stale:
// the agent reports the check under the token of the registration, and once that token
// is deleted, Consul would not hear that the check has run out. It does so too if the
// agent has lost its state: if it learns of the service again before it reconciles with
// the catalog, the session survives.
func (k *Keeper) passCheck(ctx context.Context, stale *bool) error {
	err := k.consul.PassCheck(ctx, k.checkID, k.checkTry())
	if !*stale && !consul.UnknownCheck(err) {
		return err
	}
	*stale = true
	once, cancel := context.WithTimeout(ctx, k.checkTry())
	defer cancel()
	if err := k.consul.Register(once, k.service()); err != nil {
		return err
	}
	*stale = false
	return k.consul.PassCheck(ctx, k.checkID, k.checkTry())
}

// checkPause is the pause after a try. An agent that does not answer may be starting at
// this moment. One that goes on refusing, for example because of the token, is not
// asked faster than usual.
func (k *Keeper) checkPause(err error, failing time.Duration) time.Duration {
	late := failing > 2*k.cfg.CheckTTL
	switch {
	case err == nil, consul.HTTPStatus(err) != 0 && late:
		return k.checkInterval()
	case consul.NobodyListens(err) && !late:
		return consul.Jitter(awaitRetry)
	}
	return consul.Jitter(checkRetry)
}
