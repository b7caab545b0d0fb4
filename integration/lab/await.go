package lab

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is how often Await looks again.
const pollEvery = 5 * time.Millisecond

// Await calls cond every few milliseconds until it returns nil. If ctx ends
// first, the error says what cond had to object last.
func Await(ctx context.Context, cond func() error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; at last: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
