// Package lease holds locks in Consul, all of them under one session that it
// keeps alive, and tells within milliseconds when a lock is no longer held.
//
// api.Lock of Consul's own client does not serve here: it notices a lost session
// minutes late and retries blindly every 5 s. Package lease works on the same
// keys, with the same flag, so `consul lock` contends for the same locks.
//
// A lock has a name. A [Contender] owns the facts of one lock; the caller of its
// Hold gives a function to run while the lock is held. The package knows no address
// and no network interface.
//
// # What is known, and since when
//
// Three times are kept apart. That the local agent has answered the refresh of the
// check says nothing about a lock. An answered renewal proves the session, and
// moves its hold deadline. Only the watch, a consistent read and a write of our own
// prove a lock ([Held.Certain], [Held.Confirm]).
//
// # Goroutines
//
// [Keeper.Run] joins all goroutines that it starts: one follows the keys, one
// checks the ACL token, one keeps the session. While there is a session, five more
// belong to it: they renew it, refresh the check, expire it at its deadline, keep
// the member key and release orphaned locks. [Contender.Hold] runs in the caller's
// goroutine; while the lock is held it has one more, which writes to the key, and
// one for the write under way. It joins both. Goroutines tell each other by
// [latest.Latest] values: the newest State and the session, set by Run, and how to
// contend for each lock, set by [Contender.Set].
package lease

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/consul-vip/consul-vip/internal/failurelog"
	"github.com/consul-vip/consul-vip/internal/latest"
	"github.com/consul-vip/consul-vip/lease/consul"
	"github.com/consul-vip/consul-vip/lease/state"
)

// ErrNodeTaken means that a live instance on another of Consul's nodes has the
// same name. Waiting does not help.
var ErrNodeTaken = errors.New("node name is taken")

const sessionName = "consul-vip"

// endTimeout bounds everything a Keeper says to Consul after it was told to stop,
// whether Consul answers or not.
const endTimeout = 1200 * time.Millisecond

// Config says how to hold locks.
type Config struct {
	// Client reaches the local Consul agent. Run closes it.
	Client *consul.Client
	// Prefix is the KV folder of all keys, without slashes at its ends.
	Prefix string
	// Service is the name under which this process registers with the agent.
	Service string
	// Node names this instance; empty means the local agent's node name.
	Node string
	// SessionTTL is the session's TTL in Consul, 10 s to 24 h. Without an answered
	// renewal for SessionTTL less [Margin], everything counts as lost.
	SessionTTL time.Duration
	// CheckTTL is how long this process may be silent to the local agent before
	// its session ends. Zero leaves that to the session's TTL.
	CheckTTL time.Duration
	// Version is shown to readers of the records.
	Version string
	Logger  hclog.Logger
	// Now is the clock of all deadlines; nil: CLOCK_BOOTTIME. It never goes back.
	Now func() time.Duration
}

// Keeper keeps a session and holds locks under it. Create it with New; Run does
// the work. Its methods are safe for concurrent use.
type Keeper struct {
	cfg    Config
	log    hclog.Logger
	consul *consul.Client
	keys   state.Keys
	acl    *consul.ACLChecker
	now    func() time.Duration // CLOCK_BOOTTIME

	latest     latest.Latest[observed] // set by watch
	session    latest.Latest[*session] // set by keepSessions; nil where there is none
	contenders contenders
	gaps       gaps
	contact    contact
	reread     latest.Wake // has the watch read all keys anew

	// Set by identify before the first session, and never changed afterwards.
	node      string // this instance's name
	agentNode string // Consul's name for the node
	checkID   string // empty where no check is wanted

	// Owned by keepSessions.
	evicted    bool // no session of a previous process, or of ours, is left
	registered bool // the agent may know the service
}

// observed is a State and what it proves. Times are on the Keeper's clock. The
// State is nil before the first answer.
type observed struct {
	*state.State
	sent       time.Duration // when the query was sent
	known      time.Duration // when the State was current, if what it shows is news
	consistent bool          // the answer came from a leader that made sure that it is one
}

// New returns a Keeper that does nothing before Run.
func New(cfg Config) *Keeper {
	k := &Keeper{
		cfg:    cfg,
		log:    cfg.Logger,
		consul: cfg.Client,
		keys:   state.NewKeys(cfg.Prefix),
		reread: latest.NewWake(),
		now:    cfg.Now,
	}
	if k.now == nil {
		k.now = boottime
	}
	k.contenders.byName, k.contenders.dead = map[string]*Contender{}, map[string]int{}
	k.acl = consul.NewACLChecker(cfg.Client, cfg.Logger, k.permissions())
	return k
}

// State returns the latest State, nil before the first, and a channel that closes at
// Consul's next answer, which may show the same State.
func (k *Keeper) State() (s *state.State, changed <-chan struct{}) {
	v, changed := k.latest.Get()
	return v.State, changed
}

// Node is this instance's name. It is empty as long as the local agent, whose node name it
// is by default, has not answered.
func (k *Keeper) Node() string {
	if k.cfg.Node != "" {
		return k.cfg.Node
	}
	return k.contact.get().Node
}

// Run keeps a session until ctx ends and creates a new one whenever one is lost;
// Hold tells its callers. A Consul that does not answer never ends it. When ctx
// ends it gives the session back and returns nil, at the latest after 1.2 s; cancel
// ctx only after every Hold has returned. The error is ErrNodeTaken or
// consul.ErrDatacenter.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.consul.Close()
	var g errgroup.Group
	watching, stop := context.WithCancel(ctx)
	g.Go(func() error { k.watch(watching); return nil })
	g.Go(func() error { return k.acl.Run(watching) })
	g.Go(func() error {
		defer stop()
		return k.keepSessions(ctx)
	})
	return g.Wait()
}

// watch keeps the latest State up to date with a single blocking query for all
// locks, until ctx ends.
func (k *Keeper) watch(ctx context.Context) {
	failures := failurelog.New(k.log, "watching the locks")
	for a, err := range k.consul.Follow(ctx, k.keys, k.now, k.reread) {
		failures.Record(err)
		k.contact.record(err)
		if err != nil {
			continue
		}
		before, _ := k.latest.Get()
		now, gap := k.look()
		if own, _ := k.session.Get(); own != nil {
			own.settle(before.State, a.State, now)
		}
		// A blocking query is answered when something changes, but after a gap the
		// answer may have waited here.
		known := now
		if gap > a.Sent {
			known = a.Sent
		}
		k.latest.Set(observed{a.State, a.Sent, known, a.Consistent})
	}
}

func (k *Keeper) keepSessions(ctx context.Context) error {
	var last *session
	defer func() { k.end(last) }()
	for ctx.Err() == nil {
		s, err := k.establish(ctx)
		if s != nil {
			last = s
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		k.session.Set(s)
		err = k.keep(ctx, s)
		k.evicted = false // Consul may keep the session for longer than this process
		k.session.Set(nil)
		if ctx.Err() == nil {
			k.log.Warn("session ended", "session", s.id, "reason", err)
		}
	}
	return nil
}

// identify settles the names that need the agent's answer.
func (k *Keeper) identify(ctx context.Context) error {
	if k.agentNode != "" {
		return nil
	}
	agent, err := k.consul.Agent(ctx)
	if err != nil {
		return err
	}
	if err := k.consul.CheckDatacenter(agent); err != nil {
		return err
	}
	if agent.Server {
		k.log.Warn("the local Consul agent is a server: its restarts and its load end or delay this node's session as well; run consul-vip beside a client agent unless all hosts are servers of a small cluster")
	}
	if agent.LeaveOnTerm {
		k.log.Warn("stopping the Consul agent ends this node's sessions and moves its addresses: set leave_on_terminate = false in the agent's configuration")
	}
	k.agentNode, k.node = agent.NodeName, agent.NodeName
	if k.cfg.Node != "" {
		k.node = k.cfg.Node
	}
	k.contact.named(k.node)
	if k.cfg.CheckTTL > 0 {
		k.checkID = k.cfg.Service + "-" + k.node
	}
	k.acl.Check(k.permissions())
	return nil
}

// permissions are those that this configuration needs of
// examples/acl-policy.hcl. The agent's node is empty before it is known.
func (k *Keeper) permissions() []consul.Permission {
	permissions := []consul.Permission{
		{Resource: "key", Access: "write", Segment: k.keys.Folder()},
		{Resource: "session", Access: "read", Segment: ""},
		{Resource: "session", Access: "write", Segment: k.agentNode},
		{Resource: "agent", Access: "read", Segment: k.agentNode},
	}
	if k.cfg.CheckTTL > 0 {
		permissions = append(permissions, consul.Permission{Resource: "service", Access: "write", Segment: k.cfg.Service})
	}
	return permissions
}

// end removes what the Keeper has written to Consul: the member key first, then
// the session s, if there is one, because only a session without keys ends without
// a trace, then the service.
func (k *Keeper) end(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	var errs error
	if s != nil {
		// Writes that hang must not keep the session from being ended.
		first, cancel := context.WithTimeout(ctx, endTimeout/3)
		_, err := k.consul.Commit(first, k.withdraw(s)...)
		cancel()
		if errors.Is(err, consul.ErrConflict) {
			err = nil // it had left before
		}
		errs = errors.Join(err, k.consul.DestroySession(ctx, s.id))
	}
	if k.registered {
		errs = errors.Join(errs, k.consul.Deregister(ctx, k.checkID))
	}
	if errs != nil {
		k.log.Warn("could not clean up in Consul, the session will expire by itself", "error", errs)
	}
}
