package lease

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/internal/failurelog"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Margin is the time between the hold deadline and the end of the session's TTL.
// The kernel removes an expired address up to 0.35 s late.
const Margin = time.Second

// settleTime is how long a new member leaves free locks alone, so that nodes that
// start together find each other and share the locks, instead of the first taking
// all. settleLimit is the longest if more and more members arrive.
const (
	settleTime  = time.Second
	settleLimit = 5 * time.Second
)

// longestRenewInterval is how often a session is renewed at least.
const longestRenewInterval = 5 * time.Second

// renewalsWork is how long ago the last answered renewal may be if renewals are
// answered at present.
const renewalsWork = 2 * longestRenewInterval

// createTries are the tries to create a session before its check is refreshed anew,
// and createPause is the pause between two.
const (
	createTries = 5
	createPause = 100 * time.Millisecond
)

// deadlinePoll bounds how late a deadline is noticed after the machine was
// suspended; Go's timers stand still meanwhile.
const deadlinePoll = 250 * time.Millisecond

// session is one Consul session, from its creation until it is lost. It is safe
// for concurrent use.
type session struct {
	id string
	// ctx ends with a cause that wraps ErrSessionLost the instant the session must
	// no longer be relied on.
	ctx  context.Context
	lose context.CancelCauseFunc
	ttl  time.Duration

	// Times on the Keeper's clock.
	created      time.Duration // when the request to create it was sent
	settledAt    atomic.Int64  // a time.Duration: until then free locks are left alone
	holdDeadline atomic.Int64  // a time.Duration: the hold deadline F
}

// newSession starts a session's life. The request to create it was sent at the
// time sent.
func newSession(id string, ttl, sent time.Duration) *session {
	s := &session{id: id, created: sent, ttl: ttl}
	s.ctx, s.lose = context.WithCancelCause(context.Background())
	s.holdDeadline.Store(int64(sent + ttl - Margin))
	s.settledAt.Store(int64(sent + settleTime))
	return s
}

// settled is when the process stops leaving free locks alone.
func (s *session) settled() time.Duration { return time.Duration(s.settledAt.Load()) }

// settle waits longer, up to settleLimit, when a member arrives before the session
// is settled: members that start together are then settled at the same time.
func (s *session) settle(before, after *state.State, now time.Duration) {
	if before == nil || now >= s.settled() {
		return
	}
	for node := range after.Members {
		if _, known := before.Members[node]; !known {
			s.settledAt.Store(int64(min(now+settleTime, s.created+settleLimit)))
			return
		}
	}
}

// renewed moves the hold deadline. The server counts the TTL from when it received
// the renewal, which is after it was sent. An answer that comes after the deadline
// revives nothing.
func (s *session) renewed(sent, now time.Duration) {
	if now < s.deadline() && s.ctx.Err() == nil {
		s.holdDeadline.Store(int64(sent + s.ttl - Margin))
	}
}

// deadline is the hold deadline F, past which nothing may be held.
func (s *session) deadline() time.Duration { return time.Duration(s.holdDeadline.Load()) }

// renewedAt is when the last answered renewal was sent.
func (s *session) renewedAt() time.Duration { return s.deadline() + Margin - s.ttl }

// establish creates a session, however long Consul takes. The error is ctx's cause
// or one that waiting does not cure, ErrNodeTaken or consul.ErrDatacenter. A session
// that was created although ctx has ended comes with the error, so that it can be
// destroyed.
func (k *Keeper) establish(ctx context.Context) (*session, error) {
	pause := consul.Backoff{}
	failures := failurelog.New(k.log, "creating a session")
	for {
		s, err := k.tryEstablish(ctx)
		switch {
		case ctx.Err() != nil:
			return s, context.Cause(ctx)
		case errors.Is(err, ErrNodeTaken), errors.Is(err, consul.ErrDatacenter):
			return nil, err
		case err == nil:
			failures.Record(nil)
			k.log.Info("session created", "session", s.id, "node", k.node)
			return s, nil
		}
		// The check usually reaches the catalog between the first try and the second.
		if pause.Retrying() {
			failures.Record(err)
		}
		if !pause.Wait(ctx) {
			return nil, context.Cause(ctx)
		}
	}
}

func (k *Keeper) tryEstablish(ctx context.Context) (*session, error) {
	if err := k.identify(ctx); err != nil {
		return nil, err
	}
	if err := k.evictPrevious(ctx); err != nil {
		return nil, err
	}
	if k.checkID != "" {
		k.registered = true
		if err := k.consul.Register(ctx, k.service()); err != nil {
			return nil, err
		}
		if err := k.consul.PassCheck(ctx, k.checkID, k.checkTry()); err != nil {
			return nil, err
		}
	}
	return k.createSession(ctx)
}

// createSession creates a session. The servers refuse one whose check they do not
// know to be passing, and hear of the check some milliseconds after the agent. With a
// longer pause between two tries the check could run out each time before the next.
func (k *Keeper) createSession(ctx context.Context) (*session, error) {
	for try := 1; ; try++ {
		sent, _ := k.look() // nothing looked before the first session
		id, err := k.consul.CreateSession(ctx, sessionName, k.checkID, k.cfg.SessionTTL)
		switch {
		case err == nil:
			return newSession(id, k.cfg.SessionTTL, sent), nil
		case k.checkID == "" || try == createTries || !consul.Sleep(ctx, createPause):
			return nil, err
		}
	}
}

// keep holds s alive until it is lost or ctx ends, and returns the reason.
func (k *Keeper) keep(ctx context.Context, s *session) error {
	stop := context.AfterFunc(ctx, func() { s.lose(context.Cause(ctx)) })
	defer stop()

	var g errgroup.Group
	g.Go(func() error { k.expireAtDeadline(s); return nil })
	g.Go(func() error { k.renew(s); return nil })
	g.Go(func() error { k.keepMember(s); return nil })
	g.Go(func() error { k.releaseOrphans(s); return nil })
	if k.checkID != "" {
		g.Go(func() error { k.refreshCheck(s); return nil })
	}
	_ = g.Wait() // none of them fails, each ends with s.ctx
	return context.Cause(s.ctx)
}

// expireAtDeadline loses the session at the hold deadline, on the boot-time clock.
// Its looks at the clock also find gaps.
func (k *Keeper) expireAtDeadline(s *session) {
	for {
		now, _ := k.look()
		left := s.deadline() - now
		if left <= 0 {
			s.lose(fmt.Errorf("%w: no renewal was answered for %s", ErrSessionLost, s.ttl-Margin))
			return
		}
		if !consul.Sleep(s.ctx, min(left, deadlinePoll)) {
			return
		}
	}
}

// renew renews the session every few seconds.
func (k *Keeper) renew(s *session) {
	interval := min(s.ttl/6, longestRenewInterval)
	failures := failurelog.New(k.log, "renewing the session")
	pause := interval
	for consul.Sleep(s.ctx, pause) {
		err := k.renewOnce(s.ctx, s)
		if s.ctx.Err() != nil {
			return
		}
		failures.Record(err)
		if pause = interval; err != nil {
			pause = consul.Jitter(time.Second)
		}
	}
}

// renewOnce renews s, and loses it where Consul says that it is gone.
func (k *Keeper) renewOnce(ctx context.Context, s *session) error {
	sent := k.now()
	err := k.consul.RenewSession(ctx, s.id)
	switch {
	case errors.Is(err, consul.ErrNoSession):
		s.lose(fmt.Errorf("%w: %w", ErrSessionLost, err))
	case err == nil:
		s.renewed(sent, k.now())
	}
	return err
}
