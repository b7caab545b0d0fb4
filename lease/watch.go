package lease

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"
)

// The watch wakes on every write below the prefix, and for an empty prefix on
// every write to the whole KV store; this keeps it from spinning. The burst
// lets an ordinary takeover through without a pause.
const (
	watchRate  = 50 // queries per second
	watchBurst = 20
)

// The keys below the prefix: those of a lock in a folder of its name, and two
// folders with a key for each node.
const (
	lockName    = ".lock"
	pinName     = "pin"
	releaseName = "release"
	membersName = ".members"
	drainName   = ".drain"
)

// nobody is the value of a pin with which no node may hold the lock.
const nobody = "-"

// view is everything below the prefix at one index. It is immutable.
type view struct {
	index    uint64
	at       time.Duration             // when it was read, on the Keeper's clock
	locks    map[string]lockState      // by name
	members  map[string]member         // by node, of those with a session
	drained  map[string]bool           // by node, of those that are to hold nothing
	pins     map[string]string         // by name, the only node that may hold it, or nobody
	requests map[string]releaseRequest // by name, to give it up
	ranks    rankings
}

// lockState is a lock's key; the zero value is a key that does not exist.
type lockState struct {
	session string
	index   uint64 // the key's ModifyIndex
	record  Record
}

// releaseRequest asks a node to give a lock up once, if it holds it.
type releaseRequest struct {
	node  string
	index uint64 // the key's ModifyIndex
}

// newView sorts what the keys below prefix say. What it does not know it leaves
// to whoever wrote it.
func newView(prefix string, pairs api.KVPairs, index uint64) *view {
	v := &view{
		index: index, locks: map[string]lockState{}, members: map[string]member{},
		drained: map[string]bool{}, pins: map[string]string{}, requests: map[string]releaseRequest{},
	}
	v.ranks = newRankings(v)
	for _, p := range pairs {
		dir, base, ok := cutLast(strings.TrimPrefix(p.Key, prefix+"/"))
		switch {
		case !ok || base == "":
		case dir == membersName:
			v.addMember(base, p)
		case dir == drainName:
			v.drained[base] = true
		case base == lockName:
			v.locks[dir] = lockState{session: p.Session, index: p.ModifyIndex, record: ParseRecord(p.Value)}
		case base == pinName && text(p) != "":
			v.pins[dir] = text(p)
		case base == releaseName:
			v.requests[dir] = releaseRequest{node: text(p), index: p.ModifyIndex}
		}
	}
	return v
}

func (v *view) addMember(node string, p *api.KVPair) {
	var m member
	if p.Session == "" || json.Unmarshal(p.Value, &m) != nil {
		return
	}
	m.Session = p.Session // the key's session counts, not what the value says
	v.members[node] = m
}

// text is a value as a person writes it, perhaps with a line's end.
func text(p *api.KVPair) string { return strings.TrimSpace(string(p.Value)) }

func cutLast(s string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// board shows the newest view and session to everybody who waits for them. It
// is safe for concurrent use.
type board struct {
	mu      sync.Mutex
	view    *view
	session *session
	changed chan struct{} // closed at the next change
}

func newBoard() *board { return &board{changed: make(chan struct{})} }

// read returns what is posted (nil where there is nothing yet) and a channel
// that closes as soon as either changes.
func (b *board) read() (*view, *session, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view, b.session, b.changed
}

func (b *board) postView(v *view) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.view = v
	b.wake()
}

func (b *board) postSession(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session = s
	b.wake()
}

func (b *board) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// watch keeps the board's view up to date with a single blocking query for all
// locks, until ctx ends. What failed before is tried again for ever.
func (k *Keeper) watch(ctx context.Context) {
	outage := outage{log: k.log, what: "watching the locks"}
	for l, err := range k.consul.follow(ctx, k.cfg.Prefix+"/") {
		if err != nil {
			outage.failed(err)
			continue
		}
		outage.ok()
		before, s, _ := k.board.read()
		v := newView(k.cfg.Prefix, l.pairs, l.index)
		v.at = k.now()
		if s != nil {
			s.settle(before, v, k.now())
		}
		k.board.postView(v)
	}
}

// listing is everything below a prefix at one index.
type listing struct {
	pairs api.KVPairs
	index uint64
}

// follow yields what is below prefix, now and whenever it changes, until ctx ends,
// and an error for each failed try to find out, before it pauses for the next.
func (c *consul) follow(ctx context.Context, prefix string) iter.Seq2[listing, error] {
	return func(yield func(listing, error) bool) {
		var (
			index uint64
			pause backoff
			pace  = rate.NewLimiter(watchRate, watchBurst)
		)
		for pace.Wait(ctx) == nil {
			pairs, now, err := c.list(ctx, prefix, index)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if !yield(listing{}, err) {
					return
				}
				index = 0 // whatever comes back may have another history
				pause.wait(ctx)
				continue
			case now < index:
				// A restored snapshot or new servers: read anew instead of waiting for an
				// index that may be far away.
				now = 0
			case now != index && !yield(listing{pairs, now}, nil):
				return
			}
			pause.reset()
			index = now
		}
	}
}
