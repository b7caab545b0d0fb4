package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// wallClock is the time as records have it, for people: in UTC, to the second.
func wallClock() *time.Time {
	now := time.Now().UTC().Truncate(time.Second)
	return &now
}

// boottime reads CLOCK_BOOTTIME, which goes on counting while the machine is
// suspended. Go's monotonic clock does not, and a host that slept past its
// hold deadline must notice.
func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// The clock exists since Linux 2.6.39; without it no deadline can be kept.
		panic("lease: clock_gettime(CLOCK_BOOTTIME): " + err.Error())
	}
	return time.Duration(ts.Nano())
}
