package main

import (
	"fmt"
	"io"
	"time"
)

// narrator prints what the demonstration does, with the time since its beginning, and
// below each line what came of it.
type narrator struct {
	out   io.Writer
	began time.Time
}

// title begins a part of the demonstration.
func (n *narrator) title(format string, args ...any) {
	fmt.Fprintf(n.out, "\n%s\n", fmt.Sprintf(format, args...))
}

// does prints what the demonstration does now.
func (n *narrator) does(format string, args ...any) {
	fmt.Fprintf(n.out, "%7.2f s  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

// sees prints a result.
func (n *narrator) sees(format string, args ...any) {
	fmt.Fprintf(n.out, "           → %s\n", fmt.Sprintf(format, args...))
}

// ms formats a duration in milliseconds, with one decimal below ten.
func ms(d time.Duration) string {
	value := float64(d) / float64(time.Millisecond)
	if value < 10 {
		return fmt.Sprintf("%.1f ms", value)
	}
	return fmt.Sprintf("%.0f ms", value)
}
