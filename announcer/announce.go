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

// An Announcement says which address to announce, and how often.
type Announcement struct {
	Addr netip.Addr

	// Schedule returns the current schedule. Announce calls it before every
	// announcement, so it may return a new one at any time. It must not block.
	Schedule func() Schedule

	// MayAnnounce reports whether a frame may still be sent. Announce calls it right
	// before every frame: after a pause of the process, timers are due before the
	// process has noticed what changed during the pause. It must not block. Nil:
	// every frame may be sent.
	MayAnnounce func() bool
}

// A Schedule is the timing of periodic announcements, which follow the first five.
type Schedule struct {
	Interval time.Duration // between two announcements; more than 0
	Jitter   time.Duration // each interval differs by up to this much; at most Interval
}

func (s Schedule) check() error {
	if s.Interval <= 0 || s.Jitter < 0 || s.Jitter > s.Interval {
		return fmt.Errorf("impossible interval %s with jitter %s", s.Interval, s.Jitter)
	}
	return nil
}

// firstPauses are the pauses between the first announcements, which are sent at 0,
// 0.2, 1.1, 2.2 and 4.4 s. Linux ignores an update of a neighbour entry that has
// changed within the last second (locktime), so at least one has to come later.
var firstPauses = [...]time.Duration{
	200 * time.Millisecond,
	900 * time.Millisecond,
	1100 * time.Millisecond,
	2200 * time.Millisecond,
}

// pause returns the pause after announcement number step. Jitter spreads the
// announcements of addresses that were taken over at the same time.
func (s Schedule) pause(step int) time.Duration {
	if step < len(firstPauses) {
		return firstPauses[step]
	}
	return s.Interval - s.Jitter + rand.N(2*s.Jitter+1)
}

// Announce announces a.Addr by gratuitous ARP request and reply, or by unsolicited
// neighbor advertisement, until ctx ends: at once, four more times within 4.4 s, and then
// once every interval. A receive from again starts over; again may be nil. Frames that
// MayAnnounce forbids are dropped, frames that cannot be sent are dropped and logged.
//
// Announce returns nil when ctx ends and ErrClosed when the Wire ends. The error wraps
// ErrUnsupportedFamily for an address of another family; a schedule that makes no sense is
// an error too. No frame is sent after Announce has returned.
func (w *Wire) Announce(ctx context.Context, a Announcement, again <-chan struct{}) error {
	addr, err := w.supported(a.Addr)
	if err != nil {
		return err
	}
	for step := 0; ; {
		schedule := a.Schedule()
		if err := schedule.check(); err != nil {
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
				again = nil // a closed channel starts over once
			}
		case <-time.After(schedule.pause(step)):
			step = min(step+1, len(firstPauses)) // all periodic ones have the same rank
		}
	}
}

// announceOnce sends the frames of announcement number step.
func (w *Wire) announceOnce(ctx context.Context, addr netip.Addr, step int, mayAnnounce func() bool) error {
	frames := func(own net.HardwareAddr) []Outbound { return w.protocol.announcements(own, addr, w.router()) }
	n := len(frames(*w.mac.Load()))
	for i := range n {
		err := w.transmitIf(ctx, step*n+i, mayAnnounce, func(own net.HardwareAddr) Outbound { return frames(own)[i] })
		if err != nil && !errors.Is(err, ErrNotSent) {
			return err
		}
	}
	return nil
}
