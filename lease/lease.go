// Package lease holds locks in Consul, all of them under one session that it
// keeps alive, and tells within milliseconds when one is no longer held.
//
// api.Lock of Consul's own client does not serve here: it notices a lost
// session minutes late and retries blindly every 5 s. Package lease works on
// the same keys, with the same flag, so `consul lock` contends for the same
// locks.
//
// It knows no network interface: a lock has a name, and whoever takes one
// gives a function to run while it is held.
package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

// Errors that end a hold.
var (
	// ErrLockLost means that the session lives but the lock is not its own any
	// more: the key was deleted, overwritten or unlocked by somebody else.
	ErrLockLost = errors.New("lock lost")
	// ErrHandedOver means that the lock is a successor's by now, as was intended.
	ErrHandedOver = errors.New("handed over")
	// ErrReleased means that the lock was given up because somebody asked for it,
	// or wants nobody to have it.
	ErrReleased = errors.New("given up")
	// ErrSessionLost means that the session was destroyed or expired, or that
	// its hold deadline passed without a renewal. Every lock is lost with it.
	ErrSessionLost = errors.New("session lost")
)

// ErrUnclean is for the functions that run under a lock: see [Keeper.Hold].
var ErrUnclean = errors.New("the address may still be in use")

// ErrNodeTaken means that a live instance on another of Consul's nodes calls
// itself as this one does. Waiting does not cure it.
var ErrNodeTaken = errors.New("node name is taken")

const sessionName = "consul-vip"

// endTimeout bounds everything a Keeper says to Consul after it was told to
// stop, whether Consul answers or not.
const endTimeout = 1200 * time.Millisecond

// Config says how to hold locks.
type Config struct {
	// Client reaches the local Consul agent. Its transport should be limited to
	// MaxConns connections, and wrapped by Transport.
	Client *api.Client
	// Prefix is the KV folder everything lives in, without slashes at its ends.
	Prefix string
	// Service is the name under which this process registers with the agent.
	Service string
	// Node names this instance; empty means the local agent's node name.
	Node string
	// SessionTTL is Consul's, 10 s to 24 h. Without a renewal answered for
	// SessionTTL less one second, everything counts as lost.
	SessionTTL time.Duration
	// CheckTTL is how long this process may be silent to the local agent before
	// its session ends. Zero leaves that to the session's TTL.
	CheckTTL time.Duration
	// TokenChanged receives when requests come to carry another ACL token. May be nil.
	TokenChanged <-chan struct{}
	// Version is shown to readers of the records.
	Version string
	Logger  hclog.Logger
}

// Keeper keeps a session and holds locks under it. Create it with New; Run
// does the work. Its methods are safe for concurrent use.
type Keeper struct {
	cfg    Config
	log    hclog.Logger
	consul *consul
	board  *board
	roster *roster
	audit  *audit
	now    func() time.Duration // CLOCK_BOOTTIME

	taken sync.Map // by name, the index at which we last took the lock

	// Set once, before the first session is on the board.
	node      string // this instance's name
	agentNode string // Consul's name for the node
	checkID   string // empty where no check is wanted

	// Of keepSessions alone.
	evicted    bool // no session of a predecessor, or of ours, is left
	registered bool // the service may be known to the agent
}

// New returns a Keeper that does nothing before Run.
func New(cfg Config) *Keeper {
	c := newConsul(cfg.Client)
	return &Keeper{
		cfg:    cfg,
		log:    cfg.Logger,
		consul: c,
		board:  newBoard(),
		roster: newRoster(),
		audit:  newAudit(cfg, c),
		now:    boottime,
	}
}

// Run keeps a session until ctx ends, making a new one whenever one is lost;
// whoever held a lock then learns it from Hold. Consul being away never ends
// it. When ctx ends it gives the session back and returns nil, at the latest
// after 1.2 s; cancel ctx only after every Hold has returned.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.consul.close()
	var g errgroup.Group
	watching, stop := context.WithCancel(ctx)
	g.Go(func() error { k.watch(watching); return nil })
	g.Go(func() error { k.audit.run(watching); return nil })
	g.Go(func() error {
		defer stop()
		return k.keepSessions(ctx)
	})
	return g.Wait()
}

func (k *Keeper) keepSessions(ctx context.Context) error {
	var last *session
	defer func() { k.end(last) }()
	for ctx.Err() == nil {
		s, err := k.establish(ctx)
		if err != nil {
			return err
		}
		if last = s; s == nil {
			break
		}
		k.board.postSession(s)
		err = k.keep(ctx, s)
		k.evicted = false // Consul may keep it alive for longer than we do
		k.board.postSession(nil)
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
	agent, err := k.consul.self(ctx)
	if err != nil {
		return err
	}
	if agent.Config.Server {
		k.log.Warn("the local Consul agent is a server: its restarts and its load end or delay this node's session as well. Better run consul-vip beside a client agent, unless all hosts are servers of a small cluster")
	}
	if agent.DebugConfig.LeaveOnTerm {
		k.log.Warn("stopping the Consul agent ends this node's sessions and moves its addresses: set leave_on_terminate = false in the agent's configuration")
	}
	k.agentNode, k.node = agent.Config.NodeName, agent.Config.NodeName
	if k.cfg.Node != "" {
		k.node = k.cfg.Node
	}
	if k.cfg.CheckTTL > 0 {
		k.checkID = k.cfg.Service + "-" + k.node
	}
	k.audit.identified(k.agentNode)
	return nil
}

// end takes back what the Keeper had put into Consul: the membership first,
// then the session s, if there is one, since only a session that holds nothing
// ends without trace, then the service.
func (k *Keeper) end(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	var errs error
	if s != nil {
		// Writes that hang must not keep the session from being ended.
		first, cancel := context.WithTimeout(ctx, endTimeout/3)
		_, err := k.consul.commit(first, k.membership(s, nil, true)...)
		cancel()
		if errors.Is(err, errConflict) {
			err = nil // it had left before
		}
		errs = errors.Join(err, k.consul.destroySession(ctx, s.id))
	}
	if k.registered {
		errs = errors.Join(errs, k.consul.deregister(ctx, k.checkID))
	}
	if errs != nil {
		k.log.Warn("could not take leave of Consul, it will notice by itself", "error", errs)
	}
}

func (k *Keeper) lockKey(name string) string {
	return fmt.Sprintf("%s/%s/%s", k.cfg.Prefix, name, lockName)
}

func (k *Keeper) releaseKey(name string) string {
	return fmt.Sprintf("%s/%s/%s", k.cfg.Prefix, name, releaseName)
}

func (k *Keeper) memberKey() string {
	return fmt.Sprintf("%s/%s/%s", k.cfg.Prefix, membersName, k.node)
}
