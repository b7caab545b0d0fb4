package agent

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// phases are the times of a takeover, for its line in the log. The goroutine of the
// address sets them all but the last, which the announcing goroutine sets.
type phases struct {
	detect time.Duration // since the dead host was heard last; 0: the lock was free
	commit time.Duration // the write that acquired the lock; 0: it was transferred
	prove  time.Duration
	bind   time.Duration
	last   time.Time // the end of the latest phase

	once sync.Once
}

func newPhases(t tenure) *phases {
	p := &phases{commit: t.commit, last: time.Now()}
	if t.victim != nil && t.victim.sure {
		p.detect = t.victim.dead.found.Sub(t.victim.dead.since)
	}
	return p
}

// proved ends the phase in which the previous owners are awaited.
func (p *phases) proved() { p.prove += p.lap() }

// bound ends the phase in which the address is bound.
func (p *phases) bound() { p.bind = p.lap() }

// announced ends the last phase, and logs all, with the first announcement.
func (p *phases) announced(log hclog.Logger) {
	p.once.Do(func() {
		log.Info("taken over", "detect", round(p.detect), "commit", round(p.commit),
			"prove", round(p.prove), "bind", round(p.bind), "announce", round(p.lap()))
	})
}

func (p *phases) lap() time.Duration {
	now := time.Now()
	took := now.Sub(p.last)
	p.last = now
	return took
}

func round(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
