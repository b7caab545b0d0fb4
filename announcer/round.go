package announcer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// prove probes s until all suspects are proved not to have the address, or an error
// ends Prove. It is the goroutine of s.
func (p *proving) prove(ctx context.Context, s *suspect) error {
	defer p.setHas(s, false)
	s.witnesses = p.wire.newWitnesses(p.config.Witnesses, p.config.Source, s.host, p.suspected)
	for {
		f, err := p.round(ctx, s)
		if err != nil {
			return err
		}
		if err := p.count(s, f); err != nil {
			return err
		}
		if by, ok := p.proves(s); ok && p.clear(s, by) {
			if finished, err := p.awaitOthers(ctx, s); finished || err != nil {
				return err
			}
		}
		if err := p.pause(ctx, s); err != nil {
			return err
		}
	}
}

// count counts the finding of a round. It returns an InUseError if s has had the
// address for too long.
func (p *proving) count(s *suspect, f finding) error {
	s.evidence.add(f)
	if f != void {
		p.setHas(s, f == owned)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f == owned && (s.kind == stranger || !time.Now().Before(p.end)) {
		return &InUseError{Addr: p.addr, MAC: s.mac}
	}
	return nil
}

// setHas records whether s has the address.
func (p *proving) setHas(s *suspect, has bool) {
	switch {
	case has && !s.has:
		p.wire.owned.Add(1)
	case !has && s.has:
		p.wire.owned.Add(-1)
		if s.neighbor != nil {
			s.neighbor.letGo.Set(struct{}{})
		}
	}
	if s.has = has; has {
		s.sinceBroadcast = 0
	}
}

// proves reports whether the rounds so far prove that s does not have the address.
func (p *proving) proves(s *suspect) (ProofBy, bool) {
	switch p.kindOf(s) {
	case stranger:
		return ProvedBySilence, s.evidence.silent >= strangerWindows
	case lead:
		return ProvedBySilence, s.evidence.silent >= witnessedWindows
	}
	return s.evidence.proves(proofRounds(p.wire.losses.loss(s.target(), time.Now())))
}

func (p *proving) kindOf(s *suspect) suspectKind {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.kind
}

// awaitOthers waits until all suspects are cleared, or s has answered again.
func (p *proving) awaitOthers(ctx context.Context, s *suspect) (finished bool, err error) {
	for {
		p.mu.Lock()
		cleared := s.cleared
		p.mu.Unlock()
		if !cleared {
			return false, nil
		}
		select {
		case <-s.news:
		case <-p.done:
			return true, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// pause waits until the next round may begin. While s has the address, its rounds are
// further apart if there are many such addresses, but the next one begins at once when
// the host lets any address go: a kernel removes all that expire at one moment.
func (p *proving) pause(ctx context.Context, s *suspect) error {
	var letGo <-chan struct{}
	if s.has && s.neighbor != nil {
		_, letGo = s.neighbor.letGo.Get()
	}
	if err := sleepUntil(ctx, s.round.Add(minRound), nil); err != nil || !s.has {
		return err
	}
	d := time.Duration(p.wire.owned.Load()) * time.Second / ownedRate
	return sleepUntil(ctx, s.round.Add(d), letGo)
}

// sleep waits for d. It returns the cause of ctx if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	return sleepUntil(ctx, time.Now().Add(d), nil)
}

// sleepUntil waits until a time, or until woken. It returns the cause of ctx if that ends
// first.
func sleepUntil(ctx context.Context, end time.Time, woken <-chan struct{}) error {
	d := time.Until(end)
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-woken:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// round probes s once.
func (p *proving) round(ctx context.Context, s *suspect) (finding, error) {
	s.round = time.Now()
	if d := p.blocked(s); d > 0 {
		return void, sleep(ctx, d)
	}
	switch sent, err := p.probe(ctx, s); {
	case err != nil:
		return void, err
	case !sent:
		return void, sleep(ctx, answerWindow)
	}
	s.rounds++
	if s.has {
		// An owner that still answers is not asked for its own address as well.
		if f, err := p.watch(ctx, s, nil, time.Now().Add(ownedDelay)); f != pending || err != nil {
			return f, err
		}
	}
	if s.neighbor == nil {
		return p.window(ctx, s, nil, time.Now())
	}
	e, err := p.wire.echo(ctx, s.neighbor, 0)
	switch {
	case err == nil:
		return p.window(ctx, s, e, e.at)
	case notAsked(err):
		return void, nil
	}
	return void, err
}

// blocked returns how long s must not be probed. As long as an answer of a lead may be
// one to a broadcast, it tells nothing; so as long as there are leads, nothing is
// broadcast.
func (p *proving) blocked(s *suspect) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch now := time.Now(); {
	case s.kind == lead && p.broadcasting(now):
		return p.broadcastAt.Add(answerWindow).Sub(now)
	case s.unknown() && p.leads():
		return answerWindow
	}
	return 0
}

// probe sends the probes of one round and reports whether all were sent.
func (p *proving) probe(ctx context.Context, s *suspect) (sent bool, err error) {
	if p.broadcasts(s) {
		sent, err = p.send(ctx, s, broadcast)
		p.mu.Lock()
		p.broadcastAt = time.Now() // the frame may have waited for its turn
		p.mu.Unlock()
		if s.unknown() || !sent || err != nil {
			return sent, err
		}
	}
	return p.send(ctx, s, s.target())
}

// broadcasts reports whether this round of s is also broadcast: the first one since it
// last had the address, and every fourth after that.
func (p *proving) broadcasts(s *suspect) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case s.unknown():
	case s.has, s.kind == lead, p.leads():
		return false
	case s.sinceBroadcast > 0 && s.sinceBroadcast < broadcastRounds:
		s.sinceBroadcast++
		return false
	}
	s.sinceBroadcast = 1
	if !s.unknown() && !p.broadcastAt.IsZero() && now.Sub(p.broadcastAt) < minRound {
		return false // the one of another suspect serves
	}
	p.broadcastAt = now
	return true
}

// send sends one probe and reports whether it was sent. An error ends Prove.
func (p *proving) send(ctx context.Context, s *suspect, to net.HardwareAddr) (sent bool, err error) {
	ordinal := 0
	if s.has {
		ordinal = ownedOrdinal
	}
	err = p.wire.transmit(ctx, ordinal, func(own net.HardwareAddr) Outbound { return p.wire.protocol.probe(to, own, p.config.Source, p.addr) })
	now := time.Now()
	switch {
	case err == nil:
		s.unsentSince = time.Time{}
		return true, nil
	case !errors.Is(err, ErrNotSent):
		return false, err
	case s.unsentSince.IsZero():
		s.unsentSince = now
	case now.Sub(s.unsentSince) >= maxUnsent:
		return false, fmt.Errorf("probe for %s: %w", p.addr, err)
	}
	return false, nil
}

// window waits for the answers to a round whose last frame was sent at the given time.
// e is nil if s was not asked for its own address.
func (p *proving) window(ctx context.Context, s *suspect, e *echo, at time.Time) (finding, error) {
	end := at.Add(answerWindow)
	if f, err := p.watch(ctx, s, e, at.Add(witnessDelay)); f != pending || err != nil {
		return f, err
	}
	kind := p.kindOf(s)
	if kind == owner {
		if err := s.witnesses.ask(ctx, at); err != nil {
			return void, err
		}
	}
	if f, err := p.watch(ctx, s, e, end); f != pending || err != nil {
		return f, err
	}
	late := time.Since(end) > maxLate
	backlogged := !p.wire.sock.Idle()
	switch {
	// After a pause of the process, an answer that came in time and the end of the
	// window are seen at once.
	case p.hasAnswered(s):
		return owned, nil
	case late, backlogged:
		return void, nil
	case kind != owner:
		return alone, nil
	case s.witnesses.answered(at):
		return witnessed, nil
	case !s.witnesses.exist(), !time.Now().Before(p.end):
		return alone, nil
	}
	return void, nil
}

// watch waits for an answer until a time, when it returns pending.
func (p *proving) watch(ctx context.Context, s *suspect, e *echo, until time.Time) (finding, error) {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	var heard <-chan struct{}
	if e != nil {
		heard = e.heard
	}
	for {
		select {
		case <-heard:
		case <-s.news:
		case <-t.C:
			until = time.Time{}
		case <-ctx.Done():
			return void, context.Cause(ctx)
		}
		// The reader delivers frames in their order: an answer for the address that
		// came before the one of the host is known here. No timer matters, and no backlog.
		answered := e != nil && e.answered()
		switch {
		case p.hasAnswered(s):
			return owned, nil
		case answered:
			return letGo, nil
		case until.IsZero():
			return pending, nil
		}
	}
}

// hasAnswered reports whether s has answered for the address since the last call.
func (p *proving) hasAnswered(s *suspect) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	answered := s.answers > s.seen
	s.seen = s.answers
	return answered
}
