package announcer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// An Announcement is what to announce, and how often once the first frames,
// which follow each other closely, have left.
type Announcement struct {
	Addr netip.Addr

	// Schedule is asked before every announcement how long to wait after it, so
	// that it may change meanwhile. It must not block.
	Schedule func() Schedule

	// MayAnnounce, where it is not nil, is asked right before every frame whether it
	// may still leave. A process that was frozen finds its timers due before it
	// finds out what happened meanwhile. It must not block.
	MayAnnounce func() bool
}

// Schedule is that of periodic announcements.
type Schedule struct {
	Interval time.Duration // between two; more than 0
	Jitter   time.Duration // each interval is off by up to this much; at most Interval
}

func (r Schedule) check() error {
	if r.Interval <= 0 || r.Jitter < 0 || r.Jitter > r.Interval {
		return fmt.Errorf("impossible interval %s with jitter %s", r.Interval, r.Jitter)
	}
	return nil
}

// gaps are the pauses between the first announcements, which leave at 0, 0.2,
// 1.1, 2.2 and 4.4 s. Linux takes no update of a neighbour that changed within
// the last second (locktime), so one at least has to come later than that.
var gaps = [...]time.Duration{
	200 * time.Millisecond,
	900 * time.Millisecond,
	1100 * time.Millisecond,
	2200 * time.Millisecond,
}

// pause returns how long to wait after announcement number step. Jitter keeps
// addresses that were taken over together from being announced together for ever.
func (r Schedule) pause(step int) time.Duration {
	if step < len(gaps) {
		return gaps[step]
	}
	return r.Interval - r.Jitter + rand.N(2*r.Jitter+1)
}

// Announce announces a.Addr until ctx ends (nil), by gratuitous ARP request and
// reply: at once, four times more within 4.4 s, and then every interval. A
// receive on again, which may be nil, starts over. Frames that cannot be sent are
// logged and left out; those it is not entitled to are left out. It fails only
// for an address or a rhythm it cannot do, and with ErrClosed when the Wire ends.
//
// Once Announce has returned, none of its frames will leave any more.
func (w *Wire) Announce(ctx context.Context, a Announcement, again <-chan struct{}) error {
	addr, err := supported(a.Addr)
	if err != nil {
		return err
	}
	for step := 0; ; {
		rhythm := a.Schedule()
		if err := rhythm.check(); err != nil {
			return fmt.Errorf("announce %s: %w", addr, err)
		}
		err := w.announceOnce(ctx, addr, step, a.MayAnnounce)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-again:
			if step = 0; !open {
				again = nil // being closed counts once
			}
		case <-time.After(rhythm.pause(step)):
			step = min(step+1, len(gaps)) // every periodic one is of the same rank
		}
	}
}

// announceOnce sends the frames of announcement number step, if entitled.
func (w *Wire) announceOnce(ctx context.Context, addr netip.Addr, step int, entitled func() bool) error {
	for i, encode := range arpAnnouncements {
		ordinal := step*len(arpAnnouncements) + i
		err := w.transmitIf(ctx, ordinal, entitled, func(own net.HardwareAddr) outbound { return encode(own, addr) })
		if err != nil && !errors.Is(err, ErrNotSent) {
			return err
		}
	}
	return nil
}
