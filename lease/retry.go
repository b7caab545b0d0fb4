package lease

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

// backoff is the pause before the next try: doubled from firstPause to
// longestPause, each drawn from the upper half of its range so that the nodes
// of a cluster do not come back in step.
type backoff struct {
	pause time.Duration
}

// wait pauses, or returns early with false when ctx ends.
func (b *backoff) wait(ctx context.Context) bool {
	b.pause = min(max(2*b.pause, firstPause), longestPause)
	return sleep(ctx, jitter(b.pause))
}

func (b *backoff) reset() { b.pause = 0 }

// jitter draws from [d/2, d).
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(max(d/2, 1))
}

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// outage logs the first failure of an activity and its recovery, and keeps the
// tries between them to the debug level. It belongs to one goroutine.
type outage struct {
	log   hclog.Logger
	what  string
	since time.Time
}

func (o *outage) failed(err error) {
	if o.since.IsZero() {
		o.since = time.Now()
		o.log.Warn(o.what+" failed, trying again", "error", err)
		return
	}
	o.log.Debug(o.what+" still fails", "error", err)
}

func (o *outage) ok() {
	if o.since.IsZero() {
		return
	}
	o.log.Info(o.what+" works again", "after", time.Since(o.since).Round(time.Millisecond).String())
	o.since = time.Time{}
}
