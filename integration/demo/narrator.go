package main

import (
	"fmt"
	"io"
	"time"
)

// narrator tells the story: what is done, flush left with the time since the
// beginning, and below it what happened.
type narrator struct {
	out   io.Writer
	began time.Time
}

// title announces a part of the story.
func (n *narrator) title(format string, args ...any) {
	fmt.Fprintf(n.out, "\n%s\n", fmt.Sprintf(format, args...))
}

// does says what is being done now.
func (n *narrator) does(format string, args ...any) {
	fmt.Fprintf(n.out, "%7.2f s  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

// sees says what came of it.
func (n *narrator) sees(format string, args ...any) {
	fmt.Fprintf(n.out, "           → %s\n", fmt.Sprintf(format, args...))
}

// ms writes a duration in milliseconds, with one decimal below ten.
func ms(d time.Duration) string {
	value := float64(d) / float64(time.Millisecond)
	if value < 10 {
		return fmt.Sprintf("%.1f ms", value)
	}
	return fmt.Sprintf("%.0f ms", value)
}
