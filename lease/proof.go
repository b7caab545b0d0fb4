package lease

import (
	"context"
	"sync"
	"time"
)

// LongestGap is the longest time between two looks at the clock of a process that
// runs normally: it looks every 250 ms. After a longer gap the process was stopped,
// starved or suspended, and its check may have run out: check_ttl is at least 2 s
// and is refreshed every third of that.
const LongestGap = 1250 * time.Millisecond

// gaps finds the times in which this process did not run. Whichever goroutine looks
// at the clock first after a gap finds it. It is safe for concurrent use.
type gaps struct {
	mu   sync.Mutex    // guards all following fields
	last time.Duration // the latest look at the clock
	end  time.Duration // of the latest gap
}

// look notes that this process runs at the time now. It returns the end of the
// latest gap and, if this look has found it, its length.
func (g *gaps) look(now time.Duration) (end, found time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gap := now - g.last; gap > LongestGap {
		g.end, found = now, gap
	}
	g.last = max(g.last, now)
	return g.end, found
}

// look reads the clock and returns the end of the latest gap before. The look that
// finds a gap has the watch read all locks anew.
func (k *Keeper) look() (now, gap time.Duration) {
	now = k.now() // outside the mutex: a paused process must not hold it
	gap, found := k.gaps.look(now)
	if found > 0 {
		if s, _ := k.session.Get(); s != nil {
			k.log.Warn("the process was paused, verifying the locks", "for", found.Round(time.Millisecond).String())
		}
		k.reread.Set()
	}
	return now, gap
}

// Now is the clock that hold deadlines count on, CLOCK_BOOTTIME. Unlike Go's
// monotonic clock it counts the time that the machine was suspended.
func (h *Held) Now() time.Duration { return h.keeper.now() }

// Remaining is the time until the hold deadline, which only answered renewals
// move. Zero or less means that nothing may be held any more, even if ctx has not
// ended yet.
func (h *Held) Remaining() time.Duration { return h.session.deadline() - h.keeper.now() }

// Certain reports whether this process has run without a gap of more than 1.25 s
// since the lock was last known to be ours. If not, its check may have run out, and
// another process may have the lock. The Keeper then asks Consul by itself: either
// CertainChanged fires or the hold ends.
func (h *Held) Certain() bool {
	known, _ := h.known.Get()
	_, gap := h.keeper.look()
	return known >= gap
}

// CertainChanged returns a channel that closes when the lock is known anew to be
// ours.
func (h *Held) CertainChanged() <-chan struct{} {
	_, changed := h.known.Get()
	return changed
}

// Confirm returns nil once the lock is certain and was known to be ours at the time
// since, or later. If it must ask Consul, the answer serves all locks of this process.
// The error is the cause of ctx, or of the hold's end.
func (h *Held) Confirm(ctx context.Context, since time.Duration) error {
	for {
		known, changed := h.known.Get()
		_, gap := h.keeper.look()
		switch {
		case h.run.Err() != nil:
			return context.Cause(h.run)
		case known >= max(gap, since):
			return nil
		}
		h.keeper.reread.Set()
		select {
		case <-changed:
		case <-h.run.Done():
			return context.Cause(h.run)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// knownAt notes that the lock was ours at a time on the Keeper's clock.
func (h *Held) knownAt(t time.Duration) {
	if known, _ := h.known.Get(); t > known {
		h.known.Set(t)
	}
}
