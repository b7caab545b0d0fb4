package lease

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease/state"
)

// Priorities range from 0, the best, to maxPriority.
const maxPriority = 1000

// Lock is what to contend for, and how.
type Lock struct {
	Name     string
	Priority int // lower goes first
	// PreemptDelay is how long a better placed member must be there before the lock
	// is transferred to it. Zero means never: a running owner stays.
	PreemptDelay time.Duration
	// Owner is what readers of the lock should know about the holder.
	Owner state.Owner
	// Logger receives what is logged about the lock; nil: the Keeper's own.
	Logger hclog.Logger
}

// desired is the desired state of this process: the locks it holds or contends
// for, and how. It is safe for concurrent use.
type desired struct {
	changes latest.Latest[struct{}] // set after every change of the fields below

	mu      sync.Mutex // guards all following fields
	locks   map[string]Lock
	heldOff map[string]time.Duration // by name: until when the lock is left to others
	offset  int                      // of all priorities
	leaving bool                     // this process is about to end
}

func newDesired() *desired {
	return &desired{locks: map[string]Lock{}, heldOff: map[string]time.Duration{}}
}

// Prioritize adds delta to this process's priority for every lock, as long as it
// runs, and returns the sum so far, between -1000 and 1000. The priorities that
// count stay between 0, the best, and 1000.
func (k *Keeper) Prioritize(delta int) (offset int) {
	offset = k.desired.shift(delta)
	k.log.Info("priorities changed", "offset", offset)
	return offset
}

// Update replaces what Hold was told about the lock of this name: its priority and
// its preemption from now on, its owner from the next record on. It ignores a lock
// that this process neither holds nor contends for, and returns false. The lock
// itself is not touched.
func (k *Keeper) Update(lock Lock) bool { return k.desired.update(lock) }

// Leave takes this process off the members: no lock is transferred to it any more.
// It goes on holding the locks that it holds. Call it as soon as the process is to
// end, before the contexts of the holds end.
func (k *Keeper) Leave() {
	k.desired.change(func(d *desired) { d.leaving = true })
}

// change makes a change and tells everybody who waits for one.
func (d *desired) change(f func(*desired)) {
	d.mu.Lock()
	f(d)
	d.mu.Unlock()
	d.changes.Set(struct{}{})
}

// priorities returns this process's priority for each lock that can be transferred
// to it, whether it is about to end, and a channel that closes when either changes.
func (d *desired) priorities() (priorities map[string]int, leaving bool, changed <-chan struct{}) {
	_, changed = d.changes.Get()
	d.mu.Lock()
	defer d.mu.Unlock()
	priorities = map[string]int{}
	for name, l := range d.locks {
		if _, heldOff := d.heldOff[name]; !heldOff {
			priorities[name] = clamp(l.Priority+d.offset, 0, maxPriority)
		}
	}
	return priorities, d.leaving, changed
}

// lock returns the lock as it is desired now, and a channel that closes when
// anything changes.
func (d *desired) lock(name string) (l Lock, changed <-chan struct{}) {
	_, changed = d.changes.Get()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.locks[name], changed
}

func (d *desired) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.locks[name]
	return ok
}

func (d *desired) add(l Lock) { d.change(func(d *desired) { d.locks[l.Name] = l }) }

func (d *desired) remove(name string) { d.change(func(d *desired) { delete(d.locks, name) }) }

// update replaces a known lock.
func (d *desired) update(l Lock) (known bool) {
	d.change(func(d *desired) {
		if _, known = d.locks[l.Name]; known {
			d.locks[l.Name] = l
		}
	})
	return known
}

// shift adds delta to the offset and returns it.
func (d *desired) shift(delta int) (offset int) {
	d.change(func(d *desired) {
		d.offset = clamp(d.offset+clamp(delta, -2*maxPriority, 2*maxPriority), -maxPriority, maxPriority)
		offset = d.offset
	})
	return offset
}

// holdOff leaves a lock to others until a time on the Keeper's clock, or until
// endHoldOff.
func (d *desired) holdOff(name string, until time.Duration) {
	d.change(func(d *desired) { d.heldOff[name] = until })
}

// heldOffUntil is when the hold-off of a lock ends, or 0 where there is none.
func (d *desired) heldOffUntil(name string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.heldOff[name]
}

func (d *desired) endHoldOff(name string) {
	if d.heldOffUntil(name) != 0 {
		d.change(func(d *desired) { delete(d.heldOff, name) })
	}
}

func clamp(n, low, high int) int { return min(max(n, low), high) }
