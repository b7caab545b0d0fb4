// Package failurelog keeps the log readable while something fails over and over:
// the log gets the first failure of a series and the recovery, not every try.
package failurelog

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Log logs the first failure of an activity as a warning, each further one at the
// debug level, and the recovery with its duration. Create it with [New]; it is
// safe for concurrent use.
type Log struct {
	logger   hclog.Logger
	activity string

	failing atomic.Bool // lets the usual success pass without the lock

	mu    sync.Mutex // guards all following fields
	since time.Time  // of the first failure; zero where the last try succeeded
}

// New returns a Log for an activity, named as the beginning of a sentence such as
// "renewing the session".
func New(logger hclog.Logger, activity string) *Log {
	return &Log{logger: logger, activity: activity}
}

// Record takes the result of a try; nil is a success.
func (l *Log) Record(err error) {
	if err == nil && !l.failing.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && l.since.IsZero():
		// Another goroutine has recorded the recovery.
	case err == nil:
		l.logger.Info(l.activity+" works again", "after", time.Since(l.since).Round(time.Millisecond).String())
		l.since = time.Time{}
		l.failing.Store(false)
	case l.since.IsZero():
		l.logger.Warn(l.activity+" failed, trying again", "error", err)
		l.since = time.Now()
		l.failing.Store(true)
	default:
		l.logger.Debug(l.activity+" still fails", "error", err)
	}
}
