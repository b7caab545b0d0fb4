package announcer

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// An outage logs the first failure of a series and the end of the series.
type outage struct {
	log  hclog.Logger
	what string
	on   atomic.Bool
}

func (o *outage) note(err error) {
	switch {
	case err == nil && !o.on.Load(): // nearly always
	case err == nil:
		if o.on.Swap(false) {
			o.log.Info(o.what + " works again")
		}
	default:
		if !o.on.Swap(true) {
			o.log.Warn(o.what+" fails", "error", err)
		}
	}
}

const (
	minPause    = 10 * time.Millisecond
	maxPause    = time.Second
	maxPatience = 5 * time.Second
)

// trouble decides how long to put up with a socket that cannot be read.
type trouble struct {
	first, last time.Time // of the failures that followed each other closely
	pause       time.Duration
}

// after returns how long to pause after a failed read, or the error to give up
// with: the failure itself where it cannot heal, or has not for maxPatience.
func (t *trouble) after(err error, now time.Time) (time.Duration, error) {
	switch {
	case errors.Is(err, ErrInterfaceGone),
		errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EBADF):
		return 0, err
	case errors.Is(err, unix.ENETDOWN):
		// The kernel says so once each time the link goes down, then the socket is
		// silent until it is up and works again: news, not a failure.
		return minPause, nil
	}
	// A read that waited longer than we ever pause was a working one.
	if now.Sub(t.last) > 2*maxPause {
		t.first, t.pause = now, minPause/2
	}
	t.last = now
	if now.Sub(t.first) >= maxPatience {
		return 0, err
	}
	t.pause = min(2*t.pause, maxPause)
	return t.pause, nil
}
