package lab

import (
	"time"

	"golang.org/x/sys/unix"
)

// pace calls send at once and then every interval until quit is closed. The times are
// absolute: a late call does not delay the following ones, and pace leaves out calls
// that are overdue by more than an interval.
//
// It sleeps in the kernel's clock_nanosleep, because the runtime's timers have a
// resolution of a millisecond while the process is idle.
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
		// If a signal ends the sleep, the next call comes a little early.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil)
	}
}

// monotonic returns the time of the clock by which pace sleeps.
func monotonic() time.Duration {
	var ts unix.Timespec
	// CLOCK_MONOTONIC exists on every Linux.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
