package announcer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// probeInterval is how long a probe waits for an answer. A kernel answers within
	// a millisecond. RFC 5227, section 1.1, waits 1 to 2 s, too long for a failover.
	probeInterval = 10 * time.Millisecond

	// probeRounds is how many probes in a row must have no answer. Rounds are counted
	// because elapsed time alone proves nothing: a process that was paused has sent
	// no probes meanwhile. For the same reason a round counts only if the reader has
	// no backlog at its end: if only some threads were paused, an answer may wait
	// unread.
	probeRounds = 5

	// ProbeWindow is how long an address must have no answer for Probe to succeed.
	ProbeWindow = probeRounds * probeInterval

	// maxUnsent is how long Probe keeps trying when it can send no probe.
	maxUnsent = time.Second
)

// ProbeConfig says which address to probe for, and how.
type ProbeConfig struct {
	Addr netip.Addr

	// Target is the MAC of the previous owner, which gets the probes directly. They
	// are broadcast if it is nil, not the MAC of a single station, or this host's own.
	Target net.HardwareAddr

	// Timeout is how long answers may keep coming. With 0 the first answer ends Probe.
	Timeout time.Duration
}

// InUseError says that a station kept answering for an address.
type InUseError struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // of the station that answered last
}

// Error names the address and the MAC that has it.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %s", e.Addr, e.MAC)
}

// Probe returns nil once no station answers for c.Addr. It broadcasts an ARP probe
// and then sends one every 10 ms to c.Target, or to the station that answered last,
// until five in a row (50 ms, [ProbeWindow]) have no answer; after an answer, the last
// two of them go to c.Target and to everybody. Any claim of the
// address is an answer.
//
// The error is an *InUseError if answers still come after c.Timeout. It wraps
// ErrNotSent if no probe could be sent for a second; whether the address is in use
// is then unknown. Else it wraps ErrUnsupportedFamily, or is ErrClosed or the cause
// of ctx.
//
// All probes of a Wire share its rate limit. A thousand concurrent calls take about
// half a second.
func (w *Wire) Probe(ctx context.Context, c ProbeConfig) error {
	addr, err := supported(c.Addr)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	l := w.Listen(addr)
	defer l.Close()
	p := &probing{wire: w, listener: l, addr: addr, end: time.Now().Add(c.Timeout)}

	target := w.probeTarget(c.Target)
	to, next, answered := broadcast, target, false
	asked := false // everybody: the first probe that was sent
	for n, unanswered := 0, 0; unanswered < probeRounds; n++ {
		sent, err := p.send(ctx, n, to)
		if err != nil {
			return err
		}
		asked = asked || sent
		answeredBy, backlogged, err := p.await(ctx)
		if err != nil {
			return err
		}
		if answeredBy != nil {
			next, unanswered, answered = answeredBy, 0, true
		}
		switch {
		case !sent:
			unanswered = 0
		case !backlogged:
			unanswered++
		}
		if asked {
			to = nextTarget(unanswered, answered, next, target)
		}
	}
	return nil
}

// nextTarget returns the MAC to send the next probe to. After an answer only the
// silence of the station that gave it proves anything, so it gets the probes. But
// others may have the address as well: before the end the target is probed again, and
// then everybody.
func nextTarget(unanswered int, answered bool, last, target net.HardwareAddr) net.HardwareAddr {
	switch {
	case answered && unanswered == probeRounds-1:
		return broadcast
	case answered && unanswered == probeRounds-2:
		return target
	}
	return last
}

// probing is one call of Probe. It is owned by the goroutine of the caller.
type probing struct {
	wire     *Wire
	listener *Listener
	addr     netip.Addr
	end      time.Time // from then on an answer is an InUseError

	unsentSince time.Time // the first of the probes that could not be sent; zero: the last one was sent
}

// send sends probe number n and reports whether it was sent. An error ends Probe.
func (p *probing) send(ctx context.Context, n int, to net.HardwareAddr) (sent bool, err error) {
	err = p.wire.transmit(ctx, n, func(own net.HardwareAddr) Outbound { return arpProbe(to, own, p.addr) })
	now := time.Now()
	switch {
	case err == nil:
		p.unsentSince = time.Time{}
		return true, nil
	case !errors.Is(err, ErrNotSent):
		return false, err
	case p.unsentSince.IsZero():
		p.unsentSince = now
	case now.Sub(p.unsentSince) >= maxUnsent:
		return false, fmt.Errorf("probe for %s: %w", p.addr, err)
	}
	return false, nil
}

// await waits until no answer has come for probeInterval. It returns the MAC of the
// last answer, if there was one, and whether an unread one may be in the backlog of
// the reader. An error ends Probe.
func (p *probing) await(ctx context.Context) (answeredBy net.HardwareAddr, backlogged bool, err error) {
	for {
		var answer *Claim
		answer, backlogged = p.listener.await(ctx, probeInterval)
		switch {
		case answer != nil && !time.Now().Before(p.end):
			return nil, false, &InUseError{Addr: p.addr, MAC: answer.MAC}
		case answer != nil:
			answeredBy = answer.MAC
		case ctx.Err() != nil:
			return nil, false, context.Cause(ctx)
		default:
			return answeredBy, backlogged, nil
		}
	}
}

// await returns the next claim, or nil if there is none before the timeout is over
// or ctx ends. It then reports whether the reader has a backlog, in which a claim
// may be.
func (l *Listener) await(ctx context.Context, timeout time.Duration) (claim *Claim, backlogged bool) {
	select {
	case c := <-l.claims:
		return &c, false
	case <-ctx.Done():
		return nil, true
	case <-time.After(timeout):
	}
	backlogged = !l.wire.sock.Idle()
	// After a pause of the process, a claim that came in time and the end of the
	// timeout are seen at once.
	select {
	case c := <-l.claims:
		return &c, false
	default:
		return nil, backlogged
	}
}

// probeTarget returns the MAC to send probes to, or broadcast where mac cannot be
// probed directly. A probe to this host's own MAC would prove nothing.
func (w *Wire) probeTarget(mac net.HardwareAddr) net.HardwareAddr {
	if !individual(mac) || w.mayBeOwn(mac) {
		return broadcast
	}
	return mac
}
