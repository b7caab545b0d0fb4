package consul

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

// Backoff is the pause before the next try: 200 ms, doubled with every try up to
// 5 s. Each is drawn from the upper half of its range, so that the nodes of a
// cluster do not return in step. The zero Backoff is ready to use; it belongs to
// one goroutine.
type Backoff struct {
	pause time.Duration
}

// Wait pauses. It returns early with false when ctx ends.
func (b *Backoff) Wait(ctx context.Context) bool {
	b.pause = min(max(2*b.pause, firstPause), longestPause)
	return Sleep(ctx, Jitter(b.pause))
}

// Reset makes the next pause the first.
func (b *Backoff) Reset() { b.pause = 0 }

// Retrying reports whether Wait was called twice since the last Reset: the first
// try and another one have failed.
func (b *Backoff) Retrying() bool { return b.pause > firstPause }

// Jitter draws from [d/2, d).
func Jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(max(d/2, 1))
}

// Sleep reports whether d passed before ctx ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
