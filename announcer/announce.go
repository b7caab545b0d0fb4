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

	// To is the only station to tell. Nil: all of the segment.
	To net.HardwareAddr

	// Form is which gratuitous ARP frames to send. It does not matter to IPv6.
	Form Form

	// Count is the number of announcements after which Announce returns nil; 0: there is
	// no end. With a Count, a frame that cannot be sent is an error.
	Count int
}

// A Form is a form of gratuitous ARP. Some devices learn from requests only, some from
// replies only.
type Form int

// The forms.
const (
	RequestAndReply Form = iota
	RequestOnly
	ReplyOnly
)

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
	pause := s.Interval - s.Jitter + rand.N(2*s.Jitter+1)
	if step < len(firstPauses) {
		return min(pause, firstPauses[step])
	}
	return pause
}

// Announce announces a.Addr by gratuitous ARP request and reply, or by unsolicited
// neighbor advertisement, until ctx ends: at once, four more times within 4.4 s, and then
// once every interval. No pause is longer than an interval. A receive from again starts
// over; again may be nil. Frames that MayAnnounce forbids are dropped, frames that cannot be
// sent are dropped and logged.
//
// Announce returns nil when ctx ends and ErrClosed when the Wire ends. The error wraps
// ErrUnsupportedFamily for an address of another family; a schedule that makes no sense is
// an error too. No frame is sent after Announce has returned.
func (w *Wire) Announce(ctx context.Context, a Announcement, again <-chan struct{}) error {
	addr, err := w.supported(a.Addr)
	if err != nil {
		return err
	}
	a.Addr = addr
	for step, left := 0, a.Count; ; {
		schedule := a.Schedule()
		if err := schedule.check(); err != nil {
			return fmt.Errorf("announce %s: %w", addr, err)
		}
		err := w.announceOnce(ctx, a, step)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (a.Count > 0 || !errors.Is(err, ErrNotSent)):
			return err
		}
		if left--; left == 0 {
			return nil
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

// announceOnce sends the frames of announcement number step, also if one of them cannot
// be sent.
func (w *Wire) announceOnce(ctx context.Context, a Announcement, step int) (unsent error) {
	frames := func(own net.HardwareAddr) []Outbound {
		return w.protocol.announcements(own, a.Addr, a.Form, w.router())
	}
	n := len(frames(*w.mac.Load()))
	for i := range n {
		err := w.transmitIf(ctx, step*n+i, a.MayAnnounce, func(own net.HardwareAddr) Outbound {
			frame := frames(own)[i]
			if a.To != nil {
				frame.To = a.To
			}
			return frame
		})
		switch {
		case errors.Is(err, ErrNotSent):
			unsent = err
		case err != nil:
			return err
		}
	}
	return unsent
}
