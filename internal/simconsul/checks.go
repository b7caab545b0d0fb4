package simconsul

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// reapAfter is the least time after which an agent removes a service whose check is
	// critical; it looks every reapInterval.
	reapAfter    = time.Minute
	reapInterval = 30 * time.Second

	// Of an agent's synchronization with the catalog.
	firstSync    = 15 * time.Millisecond // after the agent has begun to listen; up to three times that
	syncInterval = time.Minute           // between two full ones; up to twice that
	syncRetry    = 15 * time.Second      // after a failed full one; up to twice that
	syncStagger  = 3 * time.Second       // at most, after servers have come
)

// service is a service that is registered with an agent.
type service struct {
	id, name string
	token    string // with which it was registered
	inSync   bool
	deleted  bool
}

// check is a TTL check that is registered with an agent, of a service.
type check struct {
	id, service string
	ttl         time.Duration
	reap        time.Duration // 0: never
	status      string
	inSync      bool
	deleted     bool

	agent *Agent
	run   *run
	timer *time.Timer
	due   bool // the TTL ran out while the agent was frozen
	turns int  // counts the changes of the status
}

// checkState is what an agent keeps of a TTL check over a restart.
type checkState struct {
	status  string
	expires int64 // in seconds of Unix time, as Consul has it
}

// arm starts the check's TTL anew. The caller holds mu.
func (k *check) arm() {
	k.stop()
	if k.due = false; k.agent.c.Instant {
		return
	}
	k.timer = k.agent.c.later(k.ttl, func() {
		if k.due = true; !k.agent.frozen {
			k.expire()
		}
	})
}

func (k *check) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

func (k *check) thaw() {
	if k.due {
		k.expire()
	}
}

// expire makes the check critical, because nobody refreshed it. The caller holds mu.
func (k *check) expire() {
	if k.agent.run != k.run || k.run.checks[k.id] != k || k.deleted {
		return
	}
	k.due = false
	k.agent.c.logf("agent %s: check %s missed its TTL", k.agent.Node, k.id)
	k.set(api.HealthCritical)
}

// set gives the check a status. The caller holds mu.
func (k *check) set(status string) {
	if k.status == status {
		return
	}
	k.status, k.inSync = status, false
	k.run.changed.Set()
	k.agent.syncNow(k)
	k.turns++
	if status == api.HealthCritical && k.reap > 0 {
		k.reapAfter(max(k.reap, reapAfter), k.turns)
	}
}

// reapAfter removes the check's service unless the check changes in that time. The
// caller holds mu.
func (k *check) reapAfter(d time.Duration, turns int) {
	c := k.agent.c
	c.later(d+c.between(0, reapInterval), func() {
		switch {
		case k.agent.run != k.run || k.run.checks[k.id] != k || k.turns != turns:
		case k.agent.frozen:
			k.reapAfter(0, turns)
		default:
			k.agent.deregister(k.run, k.service)
		}
	})
}

// pass refreshes a check, as a request does. The caller holds mu.
func (a *Agent) pass(k *check, status string) {
	k.set(status)
	k.arm()
	a.disk.states[k.id] = checkState{status, time.Now().Add(k.ttl).Unix()}
}

// add adds a service with its check, or replaces it. A check keeps the status that it
// has, or had when the agent was killed; else it has the one of the registration. The
// caller holds mu.
func (a *Agent) add(r *run, s service, k *check) {
	r.services[s.id] = &s
	a.disk.services[s.id] = s
	r.changed.Set()
	if k == nil {
		return
	}
	if old := r.checks[k.id]; old != nil && !old.deleted {
		old.stop()
		k.status = old.status
	}
	a.disk.checks[k.id] = *k
	a.addCheck(r, k)
}

func (a *Agent) addCheck(r *run, k *check) {
	if state, ok := a.disk.states[k.id]; ok && time.Now().Unix() < state.expires {
		k.status = state.status
	}
	k.agent, k.run = a, r
	status := k.status
	k.status = ""
	r.checks[k.id] = k
	k.set(status)
	k.arm()
}

// load has a new process know what is on its disk.
func (a *Agent) load(r *run) {
	for _, id := range slices.Sorted(maps.Keys(a.disk.services)) {
		s := a.disk.services[id]
		r.services[id] = &s
	}
	for _, id := range slices.Sorted(maps.Keys(a.disk.checks)) {
		k := a.disk.checks[id]
		k.status = api.HealthCritical
		a.addCheck(r, &k)
	}
}

// deregister removes a service and its checks, if there is one. The caller holds mu.
func (a *Agent) deregister(r *run, id string) {
	s := r.services[id]
	if s == nil || s.deleted {
		return
	}
	s.deleted, s.inSync = true, false
	delete(a.disk.services, id)
	for _, k := range r.checks {
		if k.service == id && !k.deleted {
			k.stop()
			k.deleted, k.inSync = true, false
			delete(a.disk.checks, k.id)
			delete(a.disk.states, k.id)
		}
	}
	r.changed.Set()
}

// sync keeps the catalog like the agent, as Consul's anti-entropy does. It ends with
// the agent's process.
func (a *Agent) sync(r *run) {
	if sleep(r.ctx, a.draw(firstSync, 3*firstSync)) != nil {
		return
	}
	for a.syncFully(r) {
		full := time.NewTimer(a.draw(syncInterval, 2*syncInterval))
		for full != nil {
			select {
			case <-r.changed:
				_ = a.syncChanges(r) // the next change or full sync tries again
			case <-r.joined:
				full.Stop()
				if full = nil; sleep(r.ctx, a.draw(0, syncStagger)) != nil {
					return
				}
			case <-full.C:
				full = nil
			case <-r.ctx.Done():
				full.Stop()
				return
			}
		}
	}
}

// syncFully compares everything with the catalog until that has worked; false at the
// end of the process.
func (a *Agent) syncFully(r *run) bool {
	for {
		err := a.compare(r)
		if err == nil {
			err = a.syncChanges(r)
		}
		if err == nil {
			return true
		}
		retry := time.NewTimer(a.draw(syncRetry, 2*syncRetry))
		select {
		case <-r.joined:
			err = sleep(r.ctx, a.draw(0, syncStagger))
		case <-retry.C:
			err = nil
		case <-r.ctx.Done():
			err = r.ctx.Err()
		}
		retry.Stop()
		if err != nil {
			return false
		}
	}
}

func (a *Agent) draw(low, high time.Duration) time.Duration {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	return a.c.between(low, high)
}

// syncNow tells the servers of a check at once where nothing takes time. The caller
// holds mu.
func (a *Agent) syncNow(k *check) {
	if a.c.Instant && a.c.leading() && !a.cut && a.run != nil && a.run.servers && !k.deleted {
		k.inSync = true
		status := k.status
		a.c.commit(func(s *store) bool {
			s.setCheck(checkID{a.Node, k.id}, status, time.Now())
			return true
		})
	}
}

// compare marks what differs from the catalog. Any server may answer, so there need
// not be a leader.
func (a *Agent) compare(r *run) error {
	if err := a.path(r.ctx, r); err != nil {
		return err
	}
	return a.awake(r, func() {
		for _, k := range r.checks {
			k.inSync = !k.deleted && a.c.store.checks[checkID{a.Node, k.id}] == k.status
		}
		for id := range a.c.store.checks {
			if id.node == a.Node && id.check != serfHealth && r.checks[id.check] == nil {
				r.checks[id.check] = &check{id: id.check, deleted: true, agent: a, run: r}
			}
		}
		for _, s := range r.services {
			s.inSync = !s.deleted
		}
	})
}

// awake does f under mu as soon as the process is not frozen.
func (a *Agent) awake(r *run, f func()) error {
	return a.c.await(r.ctx, func() (bool, error) {
		if a.run != r {
			return false, errEnded
		}
		if !a.frozen {
			f()
		}
		return !a.frozen, nil
	})
}

// syncChanges tells the servers what has changed.
func (a *Agent) syncChanges(r *run) error {
	var todo []*check
	err := a.awake(r, func() {
		for _, id := range slices.Sorted(maps.Keys(r.checks)) {
			if k := r.checks[id]; !k.inSync {
				todo = append(todo, k)
			}
		}
	})
	var errs []error
	for _, k := range todo {
		errs = append(errs, a.syncCheck(r, k))
	}
	return cmp.Or(err, errors.Join(errs...))
}

// syncCheck writes one check to the catalog.
func (a *Agent) syncCheck(r *run, k *check) error {
	var status string
	var denied bool
	if err := a.awake(r, func() {
		if status = k.status; k.deleted {
			status = ""
		}
		denied = a.c.denies(r.token(k), func(t Token) bool { return allows(t.Services, "write") }) != nil
		k.inSync = true // unless it fails, or changes meanwhile
		if k.deleted && r.checks[k.id] == k {
			delete(r.checks, k.id)
		}
	}); err != nil || denied { // Consul takes a check for synchronized that its token may not write
		return err
	}
	err := a.write(r.ctx, r, func(s *store) bool {
		id := checkID{a.Node, k.id}
		s.nodes[a.Node] = true
		switch {
		case status != "":
			s.setCheck(id, status, time.Now())
		case s.checks[id] != "":
			s.removeCheck(id, time.Now())
		}
		return true
	})
	if err != nil {
		_ = a.awake(r, func() { k.failed(r) })
	}
	return err
}

// failed marks a check that could not be written. The caller holds mu.
func (k *check) failed(r *run) {
	k.inSync = false
	if k.deleted && r.checks[k.id] == nil {
		r.checks[k.id] = k
	}
}

// token is what a check is reported with.
func (r *run) token(k *check) string {
	if s := r.services[k.service]; s != nil {
		return s.token
	}
	return ""
}

// write sends a write to the leader. The caller holds no mutex.
func (a *Agent) write(ctx context.Context, r *run, write func(*store) bool) error {
	l, err := a.toLeader(ctx, r, rpcHold)
	if err != nil {
		return err
	}
	return a.c.propose(ctx, l, write)
}
