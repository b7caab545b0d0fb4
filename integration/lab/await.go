package lab

import (
	"context"
	"fmt"
	"time"
)

// pollInterval is the time between two calls by Await.
const pollInterval = 5 * time.Millisecond

// Await calls cond every few milliseconds until it returns nil. If ctx ends first,
// the error has ctx's cause and the last error that cond returned before.
func Await(ctx context.Context, cond func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := cond()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // an error that only says that ctx has ended does not replace it
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last state: %w", context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}

// Sleep waits for a time. If ctx ends first, it returns ctx's cause at once.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
