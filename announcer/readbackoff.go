package announcer

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

const (
	minPause = 10 * time.Millisecond
	maxPause = time.Second

	// maxFailing is how long a series of failed reads may last.
	maxFailing = 5 * time.Second
)

// readBackoff decides how long to pause after a failed read and when to stop
// reading. It is owned by the reader goroutine.
type readBackoff struct {
	first, last time.Time // of the current series of failures
	pause       time.Duration
}

// after returns the pause after a read that failed at now. It returns err instead if
// err is permanent or the series has lasted for maxFailing.
func (b *readBackoff) after(err error, now time.Time) (time.Duration, error) {
	switch {
	case errors.Is(err, ErrInterfaceGone),
		errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EBADF):
		return 0, err
	case errors.Is(err, unix.ENETDOWN):
		// The kernel reports it once each time the link goes down. The socket is then
		// silent until the link is up again, so this is an event and not a failure.
		return minPause, nil
	}
	// A read that blocked for longer than the longest pause did work.
	if now.Sub(b.last) > 2*maxPause {
		b.first, b.pause = now, minPause/2
	}
	b.last = now
	if now.Sub(b.first) >= maxFailing {
		return 0, err
	}
	b.pause = min(2*b.pause, maxPause)
	return b.pause, nil
}
