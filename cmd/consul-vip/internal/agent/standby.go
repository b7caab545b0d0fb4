package agent

import (
	"context"
	"time"

	"github.com/consul-vip/consul-vip/config"
	"github.com/consul-vip/consul-vip/lease"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

// locks are the locks of a cluster: *lease.Keeper, adapted by leaseKeeper.
type locks interface {
	Contend(lock lease.Lock) contender
	// State is the latest State of the keys, nil before the first, and a channel that
	// closes when there is a newer one.
	State() (*leasestate.State, <-chan struct{})
	// Node is this instance's name, empty before it is known.
	Node() string
}

// contender contends for one lock: *lease.Contender.
type contender interface {
	Set(lock lease.Lock)
	Hold(ctx context.Context, fn func(context.Context, *lease.Held) lease.Left) lease.End
	Close()
}

// leaseKeeper makes a lease.Keeper a keeper: its Contend returns the interface.
type leaseKeeper struct{ *lease.Keeper }

func (k leaseKeeper) Contend(lock lease.Lock) contender { return k.Keeper.Contend(lock) }

// deadline is the time until which a lock may be held, on the clock of Now.
type deadline interface {
	Now() time.Duration
	Remaining() time.Duration
}

// certainty is what is known about a lock that is held.
type certainty interface {
	Certain() bool
	CertainChanged() <-chan struct{}
	Confirm(ctx context.Context, since time.Duration) error
}

// hold is a lock that is held: *lease.Held.
type hold interface {
	deadline
	certainty
	Bound()
	Ended() lease.End
}

// tenure is a lock while this node holds it, with what its record said when it was
// acquired.
type tenure struct {
	hold
	previous leasestate.Record
	before   []leasestate.Before   // whose kernels may still have the address
	stranger *leasestate.Contested // that had the address in the last minutes; may be nil
	victim   *victim               // the lock was taken from it; nil: it was free, or transferred
	commit   time.Duration         // how long the write that acquired the lock took
}

func (v *vip) newTenure(held *lease.Held) tenure {
	t := tenure{hold: held, previous: held.Previous, before: held.Before, stranger: held.Contested, commit: held.Committed}
	if held.TookFrom != "" {
		t.victim = v.victimOf(held)
	}
	return t
}

// fields returns what the record says, as log fields.
func (t tenure) fields() (fields []any) {
	switch t.previous.State {
	case leasestate.RecordUnknown:
	case leasestate.RecordHandover:
		fields = []any{"transferred_by", t.previous.From, "record", string(t.previous.State)}
	default:
		fields = []any{"previous_owner", t.previous.Node, "record", string(t.previous.State)}
	}
	if t.stranger != nil {
		fields = append(fields, "contested_by", t.stranger.MAC)
	}
	if t.victim != nil {
		fields = append(fields, "took_from", t.victim.node)
	}
	return fields
}

// lock describes the lock to contend for, as configuration, link, fitness and hooks are
// now.
func (v *vip) lock() lease.Lock {
	cfg := v.cfg()
	l := lease.Lock{
		Name:         cfg.Addr().String(),
		Priority:     cfg.Priority,
		PreemptDelay: cfg.PreemptDelay,
		Owner:        v.ownerNow().encode(),
		Ineligible:   v.ineligible(),
		Dead:         v.deadSession(),
		Failing:      v.failing,
		Logger:       v.log.Named("lease"),

		Unfit: v.fitness.service(), UnfitIneligible: cfg.WhenNoneFit == config.NoneFitRelease,
	}
	if timeout := v.hooks.Timeout(config.HookPreRelease, cfg.Addr()); timeout > 0 {
		l.Prepare, l.PrepareTimeout, l.Kept = v.prepare, timeout, v.onKept
	}
	return l
}

// ownerNow is what readers of the lock should know about this host.
func (v *vip) ownerNow() Owner {
	if v.link == nil {
		return v.owner
	}
	return v.owner.on(v.link, v.cfg().Addr())
}

// update brings the configuration, the link's state and MAC, and the fitness to the
// lock. Any goroutine may call it; it never blocks.
func (v *vip) update() {
	v.updating.Lock()
	defer v.updating.Unlock()
	if !v.closed {
		v.contender.Set(v.lock())
	}
}
