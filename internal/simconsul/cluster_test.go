package simconsul

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clustered runs test with a cluster in a bubble.
func clustered(t *testing.T, config Config, test func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		config.Rand = rand.New(rand.NewPCG(7, 7))
		c := NewCluster(config)
		defer c.Close()
		test(t, c)
	})
}

// TestNoLeader has requests wait for a leader, and give up.
func TestNoLeader(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		kv := c.Agent("h1").Client(nil).KV()
		c.KillLeader(3 * time.Second)
		_, err := kv.Put(&api.KVPair{Key: "p/a"}, nil)
		require.ErrorContains(t, err, "connection refused", "the other servers have not noticed")
		time.Sleep(2900 * time.Millisecond)
		_, err = kv.Put(&api.KVPair{Key: "p/a"}, nil)
		require.NoError(t, err, "it waited")
		c.KillLeader(10 * time.Minute)
		time.Sleep(570 * time.Second)
		began := time.Now()
		_, _, err = kv.Get("p/a", nil)
		require.ErrorContains(t, err, "No cluster leader")
		assert.GreaterOrEqual(t, time.Since(began), rpcHold)
		assert.LessOrEqual(t, time.Since(began), 25*time.Second)
	})
}

// TestFrozenLeader has a request hang at a leader that does not lead any more.
func TestFrozenLeader(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		kv := c.Agent("h1").Client(nil).KV()
		c.FreezeLeader(5*time.Second, 20*time.Second)
		began := time.Now()
		_, err := kv.Put(&api.KVPair{Key: "p/a"}, nil)
		require.Error(t, err, "whether it was written")
		assert.GreaterOrEqual(t, time.Since(began), 20*time.Second)
		require.NoError(t, c.Put("p/b", ""), "there has been a leader since")
	})
}

func TestLateWrite(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		kv := c.Agent("h1").Client(nil).KV()
		c.KillLeader(2 * time.Second)
		time.Sleep(1900 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := kv.Put(&api.KVPair{Key: "p/a"}, (&api.WriteOptions{}).WithContext(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(5 * time.Second)
		assert.NotNil(t, c.Get("p/a"), "it was carried out after its sender had given up")
	})
}

func TestBlockingQuery(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		kv := c.Agent("h1").Client(nil).KV()
		require.NoError(t, c.Put("p/a", "1"))
		_, meta, err := kv.List("p/", nil)
		require.NoError(t, err)
		began := time.Now()
		options := &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 3 * time.Second}
		time.AfterFunc(time.Second, func() { _ = c.Put("q", "") })
		_, same, err := kv.List("p/", options)
		require.NoError(t, err)
		assert.Equal(t, meta.LastIndex, same.LastIndex, "a write elsewhere does not wake it")
		assert.InDelta(t, 3.1, time.Since(began).Seconds(), 0.12)
		began = time.Now()
		time.AfterFunc(time.Second, func() { _ = c.Put("p/a", "1"); _ = c.Put("p/b", "") })
		pairs, _, err := kv.List("p/", options)
		require.NoError(t, err)
		assert.Len(t, pairs, 2)
		assert.InDelta(t, 1, time.Since(began).Seconds(), 0.05)
	})
}

func TestRestore(t *testing.T) {
	var changes []Change
	clustered(t, Config{Changed: func(c Change) { changes = append(changes, c) }}, func(t *testing.T, c *Cluster) {
		kv := c.Agent("h1").Client(nil).KV()
		require.NoError(t, c.Put("p/a", "1"))
		snapshot, index := c.Snapshot(), c.Index()
		require.NoError(t, c.Put("p/a", "2"))
		require.NoError(t, c.Put("p/b", "2"))
		time.AfterFunc(time.Second, func() { _ = c.Restore(snapshot) })
		began := time.Now()
		pairs, meta, err := kv.List("p/", &api.QueryOptions{WaitIndex: c.Index(), WaitTime: time.Minute})
		require.NoError(t, err)
		assert.InDelta(t, 1, time.Since(began).Seconds(), 0.05, "it ends the query")
		assert.Equal(t, index, meta.LastIndex)
		assert.Len(t, pairs, 1)
		assert.Equal(t, "1", string(c.Get("p/a").Value))
		assert.Len(t, changes, 5)
	})
}

func TestFateOfARequest(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		a := c.Agent("h1")
		kv := a.Client(nil).KV()
		put := func(key string, fate Fate) (time.Duration, error) {
			a.SetFate(func(Request) Fate { return fate })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began := time.Now()
			_, err := kv.Put(&api.KVPair{Key: key}, (&api.WriteOptions{}).WithContext(ctx))
			return time.Since(began), err
		}
		took, err := put("delayed", Fate{Delay: time.Second, AnswerDelay: time.Second})
		require.NoError(t, err)
		assert.InDelta(t, 2, took.Seconds(), 0.05)
		_, err = put("lost", Fate{Lost: true})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Nil(t, c.Get("lost"))
		_, err = put("unanswered", Fate{AnswerLost: true})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotNil(t, c.Get("unanswered"))
		_, err = put("proxy", Fate{Status: 502, Body: "<html>"})
		require.ErrorContains(t, err, "502")
		a.Kill()
		_, err = put("refused", Fate{})
		require.ErrorContains(t, err, "connection refused")
		a.Start()
		time.Sleep(time.Second)
		_, err = put("again", Fate{})
		require.NoError(t, err)
		a.Freeze()
		time.AfterFunc(2*time.Second, a.Thaw)
		took, err = put("frozen", Fate{})
		require.NoError(t, err)
		assert.InDelta(t, 2, took.Seconds(), 0.05)
	})
}

type withToken struct {
	http.RoundTripper
	secret string
}

// TestServersRestarted reads history from a leader that replays its log, unless the read
// is consistent.
func TestServersRestarted(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		kv := c.Agent("h1").Client(nil).KV()
		history := 0
		for i := range 50 {
			value := fmt.Sprint(i)
			require.NoError(t, c.Put("p/a", value))
			c.StopServers(time.Second)
			time.Sleep(time.Second)
			p, _, err := kv.Get("p/a", nil)
			require.NoError(t, err)
			if p == nil || string(p.Value) != value {
				history++
			}
			p, _, err = kv.Get("p/a", &api.QueryOptions{RequireConsistent: true})
			require.NoError(t, err)
			require.Equal(t, value, string(p.Value))
			time.Sleep(time.Second)
		}
		assert.NotZero(t, history)
	})
}

// TestAllFaults has processes go on through all faults at once. Afterwards the cluster
// works, and nothing is left of it.
func TestAllFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		draw := rand.New(rand.NewPCG(5, 5))
		ctx, cancel := context.WithCancel(t.Context())
		var last uint64
		c := NewCluster(Config{Rand: draw, Changed: func(change Change) { last = change.Index }})
		defer c.Close()
		agents := []*Agent{c.Agent("h1"), c.Agent("h2"), c.Agent("h3")}
		var processes sync.WaitGroup
		for _, a := range agents {
			processes.Go(func() { work(ctx, a) })
			processes.Go(func() { _ = a.ConsulLock(ctx, "p/lock", func(ctx context.Context) { _ = sleep(ctx, time.Second) }) })
		}
		snapshot := c.Snapshot()
		for range 300 {
			a, d := agents[draw.IntN(3)], time.Duration(draw.Int64N(int64(5*time.Second)))
			faults := []func(){
				func() { c.KillLeader(d) }, func() { c.FreezeLeader(d/2, d) }, func() { c.StopServers(d) },
				a.Kill, a.Leave, a.Crash, a.Freeze, a.LoseState, func() { a.Cut(d%2 == 0) },
				a.Start, a.Start, a.Start, a.Thaw, a.Thaw, a.Heal, a.Heal,
				func() { a.SetFate(func(Request) Fate { return Fate{Delay: d / 10, AnswerLost: d%2 == 0} }) },
				func() { a.SetFate(nil) }, func() { _ = c.Restore(snapshot) }, func() { snapshot = c.Snapshot() },
				func() { c.SetToken("", FullToken()) }, func() { c.SetToken("", Token{}) }, c.DisableACLs,
			}
			faults[draw.IntN(len(faults))]()
			time.Sleep(d / 2)
		}
		for _, a := range agents {
			a.SetFate(nil)
			a.Heal()
			a.Thaw()
			a.Start()
		}
		c.DisableACLs()
		time.Sleep(time.Minute)
		for _, a := range agents {
			_, err := a.Client(nil).KV().Put(&api.KVPair{Key: "p/" + a.Node}, nil)
			require.NoError(t, err)
			assert.Equal(t, "passing", c.CheckStatus(a.Node, serfHealth))
			assert.Equal(t, "passing", c.CheckStatus(a.Node, "s"))
		}
		require.NotZero(t, last)
		cancel()
		processes.Wait()
	})
}

// work is a process that registers its service, refreshes its check and writes.
func work(ctx context.Context, a *Agent) {
	client := a.Client(nil)
	for i := 0; sleep(ctx, 500*time.Millisecond) == nil; i++ {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		if client.Agent().UpdateTTLOpts("s", "", "passing", (&api.QueryOptions{}).WithContext(ctx)) != nil {
			_ = client.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
				ID: "s", Name: "s", Check: &api.AgentServiceCheck{CheckID: "s", TTL: "3s", Status: "passing"},
			}, api.ServiceRegisterOpts{}.WithContext(ctx))
		}
		_, _ = client.KV().Put(&api.KVPair{Key: "p/" + a.Node, Value: fmt.Append(nil, i)}, (&api.WriteOptions{}).WithContext(ctx))
		_, _, _ = client.KV().List("p/", (&api.QueryOptions{WaitIndex: 1, WaitTime: time.Second}).WithContext(ctx))
		cancel()
	}
}

// TestCutOff has requests hang while the agent reaches no server, until it takes the
// servers for failed.
func TestCutOff(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		a := c.Agent("h1")
		kv := a.Client(nil).KV()
		a.Cut(true)
		time.AfterFunc(15*time.Second, a.Heal)
		began := time.Now()
		_, err := kv.Put(&api.KVPair{Key: "p/a"}, nil)
		require.NoError(t, err)
		assert.InDelta(t, 15.7, time.Since(began).Seconds(), 0.75)
		a.Cut(true)
		time.Sleep(time.Minute)
		_, err = kv.Put(&api.KVPair{Key: "p/a"}, nil)
		require.ErrorContains(t, err, "No known Consul servers")
		a.Heal()
		time.Sleep(3 * time.Second)
		_, err = kv.Put(&api.KVPair{Key: "p/a"}, nil)
		require.NoError(t, err)
	})
}
