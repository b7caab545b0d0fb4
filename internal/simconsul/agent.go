package simconsul

import (
	"context"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-vip/consul-vip/internal/latest"
)

// lonely is the least time after which an agent that nobody hears takes the servers for
// failed. The others are quicker, because they confirm each other.
const lonely = 27 * time.Second

// Agent is the client agent of one host.
type Agent struct {
	Node string
	// LeaveOnTerm is what the agent says about its configuration.
	LeaveOnTerm bool

	c *Cluster
	// The cluster's mutex guards all following fields.
	fate    func(Request) Fate
	run     *run // nil: no process
	frozen  bool // the process does not run
	crashed bool // the host has no power
	cut     bool // no packets to and from the servers
	cuts    int  // counts the times that it was cut off or healed
	unheard bool // the other agents do not hear it either, since the cut
	silent  bool // nothing hears the node
	silence int  // counts the changes of that
	failed  bool // serf takes the node for failed
	starts  int  // counts the times that it was started or ended
	disk    disk
}

// run is one life of the agent's process.
type run struct {
	died     chan struct{}
	ctx      context.Context // ends with it
	cancel   context.CancelFunc
	services map[string]*service
	checks   map[string]*check
	changed  latest.Wake // there is something to tell the servers
	joined   latest.Wake // the servers are known (again)
	servers  bool        // it knows servers to ask
}

// disk is what the agent writes to its data directory.
type disk struct {
	services map[string]service
	checks   map[string]check
	states   map[string]checkState
}

// Agent returns the client agent of a host. The first call starts it, and it is a
// member at once.
func (c *Cluster) Agent(node string) *Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.agents[node]; a != nil {
		return a
	}
	a := &Agent{Node: node, c: c}
	a.wipe()
	c.agents[node] = a
	c.commit(a.register)
	a.boot()
	return a
}

// register puts the node into the catalog.
func (a *Agent) register(s *store) bool {
	s.nodes[a.Node] = true
	s.checks[checkID{a.Node, serfHealth}] = api.HealthPassing
	return true
}

func (a *Agent) wipe() {
	a.disk = disk{services: map[string]service{}, checks: map[string]check{}, states: map[string]checkState{}}
}

// boot has the process answer. It knows the servers by then, but for one time of ten; so
// it compares its checks with the catalog before most processes have refreshed them. The
// caller holds mu.
func (a *Agent) boot() {
	joined := !a.cut && (a.starts == 0 || a.c.Instant || a.c.rand.IntN(10) > 0)
	r := &run{
		died: make(chan struct{}), services: map[string]*service{}, checks: map[string]*check{},
		changed: latest.NewWake(), joined: latest.NewWake(), servers: joined,
	}
	r.ctx, r.cancel = context.WithCancel(a.c.ctx)
	a.run, a.frozen = r, false
	a.load(r)
	a.c.tasks.Go(func() { a.sync(r) })
	if !joined {
		a.rejoin(r)
	}
	a.c.tell()
}

// rejoin has the agent find the servers after a moment. The caller holds mu.
func (a *Agent) rejoin(r *run) {
	a.c.later(a.c.latency(50*time.Millisecond, time.Second), func() {
		if a.run == r && !a.cut && !r.servers {
			r.servers = true
			r.joined.Set()
			a.c.tell()
		}
	})
}

// stop ends the process, if there is one. The caller holds mu.
func (a *Agent) stop() {
	a.starts++
	if a.run == nil {
		return
	}
	for _, k := range a.run.checks {
		k.stop()
	}
	close(a.run.died)
	a.run.cancel()
	a.run, a.frozen = nil, false
	a.c.tell()
}

// do does a fault under mu.
func (a *Agent) do(what string, fault func()) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if a.c.closed {
		return
	}
	a.c.logf("agent %s: %s", a.Node, what)
	fault()
	a.c.tell()
	a.listen()
}

// Kill kills the agent's process: its connections break, and new ones are refused. Serf
// fails the node if it stays away.
func (a *Agent) Kill() { a.do("killed", a.stop) }

// Leave ends the process as SIGTERM does with leave_on_terminate: the node leaves the
// cluster, which ends its sessions. An agent that cannot reach the servers, or that
// does not run, only dies.
func (a *Agent) Leave() {
	a.do("left", func() {
		if a.run != nil && !a.frozen && !a.cut {
			a.failed = true
			a.c.byLeader(func(s *store) bool {
				s.removeNode(a.Node, "its node left", time.Now())
				return true
			})
		}
		a.stop()
	})
}

// Start starts the process again, or boots the host. It answers a moment later.
func (a *Agent) Start() {
	a.do("started", func() {
		a.crashed = false
		a.starts++
		starts := a.starts
		a.c.later(a.c.latency(50*time.Millisecond, 300*time.Millisecond), func() {
			if a.run == nil && a.starts == starts {
				a.boot()
				a.listen()
			}
		})
	})
}

// Crash takes the power from the host: nothing answers any more. Start boots it.
func (a *Agent) Crash() {
	a.do("host crashed", func() {
		a.stop()
		a.crashed = true
	})
}

// LoseState deletes the data directory of an agent that does not run.
func (a *Agent) LoseState() {
	a.do("lost its state", func() {
		if a.run == nil {
			a.wipe()
		}
	})
}

// Freeze stops the process, or the whole host, without ending it. Requests hang.
func (a *Agent) Freeze() {
	a.do("frozen", func() { a.frozen = a.run != nil })
}

// Thaw undoes Freeze.
func (a *Agent) Thaw() {
	a.do("thawed", func() {
		a.frozen = false
		if a.run != nil {
			for _, k := range a.run.checks {
				k.thaw()
			}
			a.run.changed.Set()
		}
	})
}

// Cut takes away the network between the agent and the servers. Unheard says that no
// other agent hears it either, so that serf fails the node after a while.
func (a *Agent) Cut(unheard bool) {
	a.do("cut off", func() {
		a.cut, a.unheard = true, unheard
		a.cuts++
		if r := a.run; r != nil && unheard { // it takes the servers for failed
			cuts := a.cuts
			a.c.later(a.c.between(lonely, lonely*3/2), func() {
				if a.run == r && a.cuts == cuts {
					r.servers = false
					a.c.tell()
				}
			})
		}
	})
}

// Heal undoes Cut. The connections that there are resume a moment later.
func (a *Agent) Heal() {
	a.do("healed", func() {
		a.unheard = false
		a.cuts++
		cuts := a.cuts
		a.c.later(a.c.latency(50*time.Millisecond, 1300*time.Millisecond), func() {
			if a.cuts != cuts {
				return
			}
			a.cut = false
			a.c.tell()
			if a.run != nil && !a.run.servers {
				a.rejoin(a.run)
			}
		})
	})
}

// Connected reports whether the agent runs and reaches the servers.
func (a *Agent) Connected() bool {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	return a.run != nil && a.run.servers && !a.frozen && !a.crashed && !a.cut
}

// heard reports whether the node is alive for the other agents.
func (a *Agent) heard() bool { return a.run != nil && !a.frozen && !a.crashed && !a.unheard }

// listen has serf notice that the node fell silent, or was heard again. The caller
// holds mu.
func (a *Agent) listen() {
	if a.silent == !a.heard() {
		return
	}
	a.silent = !a.silent
	a.silence++
	silence := a.silence
	switch {
	case !a.heard() && !a.failed:
		a.c.later(serfTimeout(a.c), func() {
			if a.silence == silence {
				a.failed = true
				a.c.logf("node %s failed", a.Node)
				a.c.byLeader(func(s *store) bool {
					if s.nodes[a.Node] {
						s.setCheck(checkID{a.Node, serfHealth}, api.HealthCritical, time.Now())
					}
					return true
				})
			}
		})
	case a.heard() && a.failed:
		a.c.later(a.c.latency(100*time.Millisecond, time.Second), func() {
			if a.silence == silence {
				a.failed = false
				a.c.logf("node %s is alive", a.Node)
				a.c.byLeader(a.register)
			}
		})
	}
}
