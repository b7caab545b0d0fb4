package consul

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// A lane is one of the queues for slots.
type lane int

const (
	common lane = iota // writes and single reads
	taking             // transactions that take locks from dead hosts
	lanes
)

const (
	// TakeTry is the deadline of one transaction that takes locks. A healthy Consul
	// commits it within a tenth of that, also on a busy host.
	TakeTry = 250 * time.Millisecond
	// gatherTime is how long takes wait for others. The goroutines of a hundred locks
	// whose owner has died wake within a millisecond or so, and share transactions.
	gatherTime = 2 * time.Millisecond
)

// errBrokenOff is why a request was broken off that may have been carried out.
var errBrokenOff = errors.New("broken off for a transaction that takes locks from a dead host")

// slots are the connections that writes and single reads share: the watch, the renewals
// and the check keep theirs. It is safe for concurrent use.
//
// A transaction that takes locks must never wait for another one. The host that died is
// often that of Consul's leader, and then whatever was on its way to it hangs until its
// deadline, in both slots perhaps; meanwhile the next leader may be there. A connection
// of its own for takes would be a sixth one. So:
//
//   - Each lane has a slot as soon as it needs one, and the other slot as well while the
//     other lane does not need it. Takes that are tried again and again do not keep other
//     writes waiting either.
//   - A transaction that takes locks occupies its slot for [TakeTry] at the longest. An
//     agent or a server that knows no leader keeps a request, and looks for a leader at
//     intervals that grow to seconds. A new request finds one sooner than that.
//   - If others have both slots when a take comes, the older one is broken off as soon
//     as it has been under way for TakeTry: Consul is well or it has been answered by
//     then. Its sender sees a write whose answer is lost, and finds out what became of it.
//
// So a take waits for a slot for TakeTry at the longest, once, and from then on for
// takes only.
type slots struct {
	parent context.Context // of all slots

	mu       sync.Mutex // guards all following fields
	waiting  [lanes][]*waiter
	used     [lanes][]*slot // the oldest first
	gathered bool           // takes have waited for others
	breaker  *time.Timer    // looks for a slot to break off; nil: there was no need yet
}

// slot is the right to one connection. It must be freed.
type slot struct {
	lane  lane
	ctx   context.Context // ends when the slot is freed or broken off
	end   context.CancelCauseFunc
	since time.Time
}

// waiter waits for a slot.
type waiter struct {
	lane    lane
	granted chan *slot // has room for one
}

// enter begins to wait. The receiver of the slot must free it; call leave to wait no
// longer.
func (s *slots) enter(l lane) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &waiter{l, make(chan *slot, 1)}
	s.waiting[l] = append(s.waiting[l], w)
	if l == taking && len(s.waiting[l]) == 1 {
		s.gathered = false
		time.AfterFunc(gatherTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.gathered = true
			s.assign()
		})
	}
	s.assign()
	return w
}

// leave ends the wait, also where it was over.
func (s *slots) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting[w.lane], w); i >= 0 {
		s.waiting[w.lane] = slices.Delete(s.waiting[w.lane], i, i+1)
	}
	select {
	case unused := <-w.granted:
		s.remove(unused)
	default:
	}
	s.assign() // the other lane may have kept back for this one
}

// free gives a slot back.
func (s *slots) free(used *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(used)
	s.assign()
}

// remove takes a slot off those in use. The caller holds mu.
func (s *slots) remove(used *slot) {
	used.end(nil)
	s.used[used.lane] = slices.DeleteFunc(s.used[used.lane], func(o *slot) bool { return o == used })
}

// assign grants the slots that are free. The caller holds mu.
func (s *slots) assign() {
	for len(s.used[common])+len(s.used[taking]) < maxWrites {
		l, ok := s.next()
		if !ok {
			return
		}
		w := s.waiting[l][0]
		s.waiting[l] = slices.Delete(s.waiting[l], 0, 1)
		granted := &slot{lane: l, since: time.Now()}
		granted.ctx, granted.end = context.WithCancelCause(s.parent)
		s.used[l] = append(s.used[l], granted)
		w.granted <- granted
	}
	s.breakOff()
}

// next is the lane that gets the next slot, if one is to get it. The caller holds mu.
func (s *slots) next() (lane, bool) {
	takes, others := len(s.waiting[taking]) > 0, len(s.waiting[common]) > 0
	switch {
	case takes && s.gathered && (len(s.used[taking]) == 0 || !others):
		return taking, true
	case others && (len(s.used[common]) == 0 || !takes):
		return common, true
	}
	return 0, false
}

// breakOff breaks off the oldest request if takes would have to wait for it. The caller
// holds mu.
func (s *slots) breakOff() {
	if len(s.waiting[taking]) == 0 || len(s.used[common]) < maxWrites {
		return
	}
	oldest := s.used[common][0]
	left := TakeTry - time.Since(oldest.since)
	switch {
	case left <= 0:
		oldest.end(errBrokenOff)
	case s.breaker == nil:
		s.breaker = time.AfterFunc(left, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.assign()
		})
	default:
		s.breaker.Reset(left)
	}
}
