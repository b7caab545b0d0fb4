package simulation

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/consul-vip/consul-vip/internal/simconsul"
)

// consulFaults are the faults of Consul's servers, of its agents, and of other clients.
var consulFaults = []kind{
	{name: "leader killed", weight: 6, shortest: 100 * ms, longest: 14 * sec, begin: leaderKilled, bearable: shorterThanSession, exits: []int{exitLost}},
	{name: "leader frozen", weight: 3, shortest: 100 * ms, longest: 14 * sec, begin: leaderFrozen, bearable: shorterThanSession, exits: []int{exitLost}},
	{name: "servers stopped", weight: 2, shortest: 500 * ms, longest: 30 * sec, begin: serversStopped, bearable: shorterThanSession, exits: []int{exitLost}},
	{name: "agent killed", weight: 6, shortest: 100 * ms, longest: 20 * sec, begin: agentKilled, bearable: shorterThanRestart, exits: []int{exitLost}},
	{name: "agent left", weight: 2, shortest: 100 * ms, longest: 10 * sec, begin: agentLeft, exits: []int{exitLost}},
	{name: "agent frozen", weight: 4, shortest: 100 * ms, longest: 20 * sec, begin: agentFrozen, bearable: shorterThanCheck, exits: []int{exitLost}},
	{name: "agent cut off", weight: 5, shortest: 100 * ms, longest: 40 * sec, begin: agentCut, bearable: shorterThanSession, exits: []int{exitLost}},
	{name: "requests lost or late", weight: 8, shortest: 500 * ms, longest: 20 * sec, begin: requestsLost, exits: []int{exitLost}},
	{name: "session destroyed", weight: 4, begin: sessionDestroyed, exits: []int{exitLost}},
	{name: "key deleted", weight: 4, begin: keyDeleted, exits: []int{exitLost}, address: true, ends: 1},
	{name: "key overwritten", weight: 4, begin: keyOverwritten, exits: []int{exitLost}, address: true, ends: 1},
	{name: "lock unlocked", weight: 2, begin: keyUnlocked, exits: []int{exitLost}, address: true, ends: 1},
	{name: "snapshot restored", weight: 2, shortest: 500 * ms, longest: 10 * sec, begin: snapshotRestored, exits: []int{exitLost}},
	{name: "consul lock", weight: 3, shortest: 500 * ms, longest: 20 * sec, begin: consulLock, bearable: forEver, address: true},
	{name: "list filtered", weight: 4, shortest: 100 * ms, longest: 20 * sec, begin: listFiltered, bearable: shorterThanSession, exits: []int{exitLost}},
}

func leaderKilled(c *cluster, f fault) func() {
	c.consul.KillLeader(f.lasts)
	return func() {}
}

func leaderFrozen(c *cluster, f fault) func() {
	election := f.lasts
	if f.draw%3 == 0 {
		election = 0
	}
	c.consul.FreezeLeader(election, f.lasts)
	return func() {}
}

func serversStopped(c *cluster, f fault) func() {
	c.consul.StopServers(f.lasts)
	return func() {}
}

func agentKilled(c *cluster, f fault) func() {
	a := c.at(f).consul
	a.Kill()
	if f.draw%10 == 0 {
		a.LoseState()
	}
	return a.Start
}

func agentLeft(c *cluster, f fault) func() {
	a := c.at(f).consul
	a.Leave()
	return a.Start
}

func agentFrozen(c *cluster, f fault) func() {
	a := c.at(f).consul
	a.Freeze()
	return a.Thaw
}

func agentCut(c *cluster, f fault) func() {
	a := c.at(f).consul
	a.Cut(f.draw%2 == 0)
	return a.Heal
}

// requestsLost gives each request of one host, or of all, a fate of its own.
func requestsLost(c *cluster, f fault) func() {
	draw := f.rand()
	bad := 0.05 + 0.5*draw.Float64()
	var mu sync.Mutex // guards draw
	fate := func(simconsul.Request) simconsul.Fate {
		mu.Lock()
		defer mu.Unlock()
		return drawFate(draw, bad)
	}
	hosts := c.hosts
	if f.draw%3 != 0 {
		hosts = []*host{c.at(f)}
	}
	for _, h := range hosts {
		h.consul.SetFate(fate)
	}
	return func() {
		for _, h := range hosts {
			h.consul.SetFate(nil)
		}
	}
}

func drawFate(draw *rand.Rand, bad float64) (fate simconsul.Fate) {
	if draw.Float64() > bad {
		return fate
	}
	late := time.Duration(draw.Int64N(int64(pick(draw, 50*ms, 500*ms, 6*sec))))
	switch draw.IntN(5) {
	case 0:
		fate.Lost = true
	case 1:
		fate.AnswerLost = true
	case 2:
		fate.Delay = late
	case 3:
		fate.AnswerDelay = late
	case 4:
		fate.Status, fate.Body = pick(draw, 500, 500, 429), "simulated failure"
	}
	return fate
}

// sessionOf is the session of the host's instance, or of the owner of the address.
func (c *cluster) sessionOf(f fault) string {
	key := c.keys.Member(c.at(f).name)
	if f.draw%2 == 0 {
		key = c.lockKey(f)
	}
	if pair := c.consul.Get(key); pair != nil {
		return pair.Session
	}
	return ""
}

func (c *cluster) lockKey(f fault) string { return c.keys.Lock(c.addrs[f.addr].String()) }

func sessionDestroyed(c *cluster, f fault) func() {
	if id := c.sessionOf(f); id != "" {
		_ = c.consul.DestroySession(id)
	}
	return nil
}

func keyDeleted(c *cluster, f fault) func() {
	_ = c.consul.Delete(c.lockKey(f))
	return nil
}

func keyOverwritten(c *cluster, f fault) func() {
	_ = c.consul.Put(c.lockKey(f), "overwritten")
	return nil
}

func keyUnlocked(c *cluster, f fault) func() {
	if pair := c.consul.Get(c.lockKey(f)); pair != nil && pair.Session != "" {
		_ = c.consul.Release(pair.Key, "unlocked", pair.Session)
	}
	return nil
}

// snapshotRestored restores a snapshot of some seconds ago, in which every node is in
// the catalog: Consul takes up to a minute to bring back one that is not.
func snapshotRestored(c *cluster, _ fault) func() {
	for _, h := range c.hosts {
		if c.consul.CheckStatus(h.name, "serfHealth") != "passing" {
			return nil
		}
	}
	snapshot := c.consul.Snapshot()
	return func() { _ = c.consul.Restore(snapshot) }
}

func consulLock(c *cluster, f fault) func() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.at(f).consul.ConsulLock(ctx, c.lockKey(f), func(ctx context.Context) { <-ctx.Done() })
	}()
	return func() {
		cancel()
		<-ended
	}
}

// listFiltered denies the instances to read some of the keys, or all.
func listFiltered(c *cluster, f fault) func() {
	denied := c.keys.Folder()
	if f.draw%2 == 0 {
		denied = c.lockKey(f)
	}
	lacking := simconsul.FullToken()
	lacking.Keys = map[string]string{"": "write", denied: "deny"}
	c.consul.SetToken(token, lacking)
	return func() { c.consul.SetToken(token, simconsul.FullToken()) }
}
