package lease

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Margin is kept between the hold deadline and the session's TTL. The kernel
// removes an expired address up to 0.35 s late.
const Margin = time.Second

// settling is for how long a new member leaves free locks alone, so that nodes
// that start together find each other and share, instead of the first taking
// all. settlingLimit is for how long at most, if ever more arrive.
const (
	settling      = time.Second
	settlingLimit = 5 * time.Second
)

// fencePoll bounds how late a deadline is noticed after the machine was
// suspended, for which time Go's timers stand still.
const fencePoll = 250 * time.Millisecond

// session is one Consul session, from its creation until it is lost. It is
// safe for concurrent use.
type session struct {
	id string
	// ctx ends with a cause that wraps ErrSessionLost the instant the session
	// must no longer be believed in.
	ctx  context.Context
	lose context.CancelCauseFunc

	born     time.Duration // when its creation was sent off
	settling atomic.Int64  // until when free locks are left alone
	ttl      time.Duration
	deadline atomic.Int64 // the hold deadline F, a time.Duration of the Keeper's clock
}

// newSession starts a session's life; sent is when its creation was sent off.
func newSession(id string, ttl, sent time.Duration) *session {
	s := &session{id: id, born: sent, ttl: ttl}
	s.ctx, s.lose = context.WithCancelCause(context.Background())
	s.deadline.Store(int64(sent + ttl - Margin))
	s.settling.Store(int64(sent + settling))
	return s
}

// settled is when the process stops leaving free locks alone.
func (s *session) settled() time.Duration { return time.Duration(s.settling.Load()) }

// settle waits for members that arrive while it settles itself, within reason:
// then all that start together are done at the same time.
func (s *session) settle(before, after *view, now time.Duration) {
	if before == nil || now >= s.settled() {
		return
	}
	for node := range after.members {
		if _, known := before.members[node]; !known {
			s.settling.Store(int64(min(now+settling, s.born+settlingLimit)))
			return
		}
	}
}

// renewed moves the hold deadline: the server counts the TTL from when it got
// the renewal, which is after it was sent. An answer that comes after the
// deadline revives nothing.
func (s *session) renewed(sent, now time.Duration) {
	if now < s.hold() && s.ctx.Err() == nil {
		s.deadline.Store(int64(sent + s.ttl - Margin))
	}
}

// hold is the hold deadline F, past which nothing may be held.
func (s *session) hold() time.Duration { return time.Duration(s.deadline.Load()) }

// establish creates a session, however long Consul takes. It returns nil only
// when ctx ends, and an error only for what no waiting cures.
func (k *Keeper) establish(ctx context.Context) (*session, error) {
	pause := backoff{}
	outage := outage{log: k.log, what: "creating a session"}
	for {
		s, err := k.tryEstablish(ctx)
		switch {
		case ctx.Err() != nil:
			return s, nil
		case errors.Is(err, ErrNodeTaken):
			return nil, err
		case err == nil:
			outage.ok()
			k.log.Info("session created", "session", s.id, "node", k.node)
			return s, nil
		}
		// The check usually reaches the catalog between the first try and the second.
		if pause.pause > firstPause {
			outage.failed(err)
		}
		if !pause.wait(ctx) {
			return nil, nil
		}
	}
}

func (k *Keeper) tryEstablish(ctx context.Context) (*session, error) {
	if err := k.identify(ctx); err != nil {
		return nil, err
	}
	if err := k.evictPredecessor(ctx); err != nil {
		return nil, err
	}
	if k.checkID != "" {
		k.registered = true
		if err := k.consul.register(ctx, k.cfg.Service, k.checkID, k.cfg.Version, k.cfg.CheckTTL); err != nil {
			return nil, err
		}
		if err := k.consul.pass(ctx, k.checkID, k.beat()); err != nil {
			return nil, err
		}
	}
	sent := k.now()
	id, err := k.consul.createSession(ctx, sessionName, k.checkID, k.cfg.SessionTTL)
	if err != nil {
		return nil, err
	}
	return newSession(id, k.cfg.SessionTTL, sent), nil
}

// keep holds s alive until it is lost or ctx ends, and returns why.
func (k *Keeper) keep(ctx context.Context, s *session) error {
	stop := context.AfterFunc(ctx, func() { s.lose(context.Cause(ctx)) })
	defer stop()

	var g errgroup.Group
	g.Go(func() error { k.fence(s); return nil })
	g.Go(func() error { k.renew(s); return nil })
	g.Go(func() error { k.enroll(s); return nil })
	g.Go(func() error { k.tidy(s); return nil })
	if k.checkID != "" {
		g.Go(func() error { k.refreshCheck(s); return nil })
	}
	_ = g.Wait() // none of them fails, each ends with s.ctx
	return context.Cause(s.ctx)
}

// fence loses the session at the hold deadline, on the boot-time clock.
func (k *Keeper) fence(s *session) {
	for {
		left := s.hold() - k.now()
		if left <= 0 {
			s.lose(fmt.Errorf("%w: no renewal was answered for %s", ErrSessionLost, s.ttl-Margin))
			return
		}
		if !sleep(s.ctx, min(left, fencePoll)) {
			return
		}
	}
}

// renew renews the session every few seconds. A renewal costs no Raft write.
func (k *Keeper) renew(s *session) {
	interval := min(s.ttl/6, 5*time.Second)
	outage := outage{log: k.log, what: "renewing the session"}
	pause := interval
	for sleep(s.ctx, pause) {
		err := k.renewOnce(s.ctx, s)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			outage.failed(err)
			pause = jitter(time.Second)
		default:
			outage.ok()
			pause = interval
		}
	}
}

// renewOnce renews s and loses it where Consul says that it is gone.
func (k *Keeper) renewOnce(ctx context.Context, s *session) error {
	sent := k.now()
	err := k.consul.renewSession(ctx, s.id)
	switch {
	case errors.Is(err, ErrSessionLost):
		s.lose(err)
	case err == nil:
		s.renewed(sent, k.now())
	}
	return err
}
