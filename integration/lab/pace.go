package lab

import (
	"time"

	"golang.org/x/sys/unix"
)

// pace calls send at once and then every interval until quit is closed. The
// times are absolute: a late call doesn't make the following ones late, and
// calls that are overdue by more than an interval are left out.
//
// It sleeps in the kernel's clock_nanosleep, because the runtime's timers are
// only as fine as a millisecond while the process is idle.
func pace(every time.Duration, quit <-chan struct{}, send func()) {
	next := monotonic()
	for {
		select {
		case <-quit:
			return
		default:
		}
		send()
		next += every
		if now := monotonic(); next < now {
			next = now
		}
		until := unix.NsecToTimespec(int64(next))
		// An early return, by a signal, only sends a little early.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil)
	}
}

// monotonic returns the reading of the clock that pace sleeps by.
func monotonic() time.Duration {
	var ts unix.Timespec
	// CLOCK_MONOTONIC exists on every Linux.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
