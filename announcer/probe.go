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
	// askInterval is the time an answer to one probe gets. A kernel answers
	// within a millisecond; the 1 to 2 s of RFC 5227, section 1.1, would be outage.
	askInterval = 10 * time.Millisecond

	// askRounds probes in a row have to go unanswered: 50 ms. Counting probes, not
	// time alone, keeps a process that was frozen meanwhile from taking the time
	// it slept through, in which it asked nothing, for silence. For the same reason
	// a probe counts only if the reader is not behind when its time is over: with
	// less than all of a process held up, answers may wait unread.
	askRounds = 5

	// ProbeWindow is how long the wire must be silent for a Probe to end.
	ProbeWindow = askRounds * askInterval

	// askOutage is how long to try when no probe can be sent.
	askOutage = time.Second
)

// ProbeConfig says which address to probe for, and how.
type ProbeConfig struct {
	Addr netip.Addr

	// Target is the MAC of the last known owner, which is asked directly; asked by
	// broadcast where it is nil, no station's address or this host's own.
	Target net.HardwareAddr

	// Timeout is how long an owner may keep answering before it counts as here
	// to stay. With 0 the first answer decides.
	Timeout time.Duration
}

// An InUseError says that somebody kept answering for an address.
type InUseError struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // who answered last
}

// Error names the address and who has it.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by %s", e.Addr, e.MAC)
}

// Probe asks the wire who owns q.Addr, by ARP probes: the first by broadcast,
// then every 10 ms one to q.Target, or to whoever answered last. It returns nil
// once five probes in a row, 50 ms, have met silence; any frame in which another
// host claims the address is an answer. An *InUseError means that there still
// came answers after q.Timeout, ErrNotSent that for a second no probe
// could be sent, which leaves the question open. Otherwise the error is ctx's
// cause, ErrUnsupportedFamily or ErrClosed.
//
// Many may ask at once: all questions share the interface's rate limit, and each
// takes as long as its five probes need.
func (w *Wire) Probe(ctx context.Context, q ProbeConfig) error {
	addr, err := supported(q.Addr)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	l := w.Listen(addr)
	defer l.Close()

	start := time.Now()
	var failing time.Time // since when no probe could be sent
	to, next := broadcast, w.askee(q.Target)
	for n, silent := 0, 0; silent < askRounds; n++ {
		err := w.transmit(ctx, n, func(own net.HardwareAddr) outbound { return arpProbe(to, own, addr) })
		now := time.Now()
		switch {
		case err == nil:
			failing = time.Time{}
		case !errors.Is(err, ErrNotSent):
			return err
		case failing.IsZero():
			failing = now
		case now.Sub(failing) >= askOutage:
			return fmt.Errorf("ask for %s: %w", addr, err)
		}
		to = next
		answer, deaf := l.hear(ctx)
		for ; answer != nil; answer, deaf = l.hear(ctx) {
			if time.Since(start) >= q.Timeout {
				return &InUseError{Addr: addr, MAC: answer.MAC}
			}
			// Ask on who answers, be it not the last owner: it alone may be asked next.
			to, next, silent = answer.MAC, answer.MAC, 0
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			silent = 0 // nobody was asked
		case !deaf:
			silent++
		}
	}
	return nil
}

// hear returns the next answer, or nil once there was none for askInterval or
// ctx has ended. Deaf says that there may have been one all the same.
func (l *Listener) hear(ctx context.Context) (answer *Claim, deaf bool) {
	select {
	case c := <-l.claims:
		return &c, false
	case <-ctx.Done():
		return nil, true
	case <-time.After(askInterval):
	}
	deaf = !l.wire.sock.idle()
	// A process that was held up sees both at once; the answer came in time.
	select {
	case c := <-l.claims:
		return &c, false
	default:
		return nil, deaf
	}
}

// askee returns whom to ask directly, given the last known owner. Asking
// ourselves would prove nothing.
func (w *Wire) askee(last net.HardwareAddr) net.HardwareAddr {
	if !individual(last) {
		return broadcast
	}
	if own, err := w.lookUp(last); own || err != nil {
		return broadcast
	}
	return last
}
