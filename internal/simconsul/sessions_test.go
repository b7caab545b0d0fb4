package simconsul

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keepSession starts a session with a check of a service, which is refreshed until ctx ends.
func keepSession(ctx context.Context, t *testing.T, a *Agent) (id string) {
	t.Helper()
	client := a.Client(nil)
	require.NoError(t, client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "s", Name: "s", Check: &api.AgentServiceCheck{CheckID: "s", TTL: "3s", Status: "passing"},
	}))
	time.Sleep(time.Second)
	id, _, err := client.Session().Create(&api.SessionEntry{
		Name: "s", TTL: "30s", LockDelay: time.Nanosecond, NodeChecks: []string{serfHealth}, ServiceChecks: []api.ServiceCheck{{ID: "s"}},
	}, nil)
	require.NoError(t, err)
	go func() {
		// The agent keeps a refresh over a restart, but not the status of a registration.
		for pause := time.Duration(1); sleep(ctx, pause) == nil; pause = time.Second {
			_ = client.Agent().UpdateTTLOpts("s", "", "passing", (&api.QueryOptions{}).WithContext(ctx))
		}
	}()
	return id
}

// endedAfter returns when a session ended, measured from now.
func endedAfter(c *Cluster, id string) time.Duration {
	began := time.Now()
	_ = c.awaitFor(context.Background(), 10*time.Minute, errWaited, func() (bool, error) { return c.store.sessions[id] == nil, nil })
	return time.Since(began)
}

func TestSessionEnds(t *testing.T) {
	tests := map[string]struct {
		fault    func(c *Cluster, a *Agent, stop func())
		from, to time.Duration
	}{
		"the process dies":         {func(_ *Cluster, _ *Agent, stop func()) { stop() }, 2 * time.Second, 3100 * time.Millisecond},
		"the node leaves":          {func(_ *Cluster, a *Agent, _ func()) { a.Leave() }, 0, time.Second},
		"the host crashes":         {func(_ *Cluster, a *Agent, _ func()) { a.Crash() }, 4 * time.Second, 10 * time.Second},
		"the agent is killed":      {func(_ *Cluster, a *Agent, _ func()) { a.Kill() }, 4 * time.Second, 10 * time.Second},
		"cut off, heard by others": {func(_ *Cluster, a *Agent, stop func()) { a.Cut(false); stop() }, 55 * time.Second, 61 * time.Second},
		"cut off":                  {func(_ *Cluster, a *Agent, _ func()) { a.Cut(true) }, 4 * time.Second, 10 * time.Second},
		// The agent tells the servers of the check once, and again after it has heard of a
		// new leader.
		"dies while there is no leader": {func(c *Cluster, _ *Agent, stop func()) {
			c.KillLeader(6 * time.Second)
			stop()
		}, 6 * time.Second, 11 * time.Second},
		"nobody renews it": {func(*Cluster, *Agent, func()) {}, 55 * time.Second, 60 * time.Second},
		"a new leader begins the TTL anew": {func(c *Cluster, _ *Agent, _ func()) {
			time.Sleep(30 * time.Second)
			c.KillLeader(time.Second)
		}, 61 * time.Second, 62 * time.Second},
		"the agent loses its state": {func(_ *Cluster, a *Agent, _ func()) {
			a.Kill()
			a.LoseState()
			a.Start()
		}, 0, 5 * time.Second},
		"a short restart": {func(_ *Cluster, a *Agent, _ func()) {
			a.Kill()
			time.Sleep(time.Second)
			a.Start()
		}, 55 * time.Second, 60 * time.Second},
		"a short restart, and nobody refreshes the check": {func(_ *Cluster, a *Agent, stop func()) {
			stop()
			a.Kill()
			time.Sleep(time.Second)
			a.Start()
		}, 3 * time.Second, 3500 * time.Millisecond}, // the TTL begins anew
		"a long restart": {func(_ *Cluster, a *Agent, _ func()) {
			a.Kill()
			time.Sleep(3500 * time.Millisecond) // serf has not noticed
			a.Start()
		}, 0, time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			clustered(t, Config{}, func(t *testing.T, c *Cluster) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				a := c.Agent("h1")
				id := keepSession(ctx, t, a)
				time.Sleep(10 * time.Millisecond)
				test.fault(c, a, stop)
				after := endedAfter(c, id)
				assert.GreaterOrEqual(t, after, test.from)
				assert.LessOrEqual(t, after, test.to)
			})
		})
	}
}

func TestLockDelay(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		c.Agent("h1")
		id, err := c.CreateSession(Session{Name: "consul lock", Node: "h1", LockDelay: 15 * time.Second})
		require.NoError(t, err)
		other, err := c.CreateSession(Session{Name: "other", Node: "h1"})
		require.NoError(t, err)
		require.NoError(t, c.Acquire("p/a", "", id))
		require.ErrorIs(t, c.Acquire("p/a", "", other), ErrRefused)
		require.NoError(t, c.Release("p/a", "", id), "a release has no lock-delay")
		require.NoError(t, c.Acquire("p/a", "", other))
		require.NoError(t, c.Release("p/a", "", other))
		require.NoError(t, c.Acquire("p/a", "", id))
		require.NoError(t, c.DestroySession(id))
		require.ErrorIs(t, c.Acquire("p/a", "", other), ErrRefused)
		time.Sleep(15 * time.Second)
		require.NoError(t, c.Acquire("p/a", "", other))
	})
}

func TestConsulLock(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		for i := range 2 {
			a := c.Agent(fmt.Sprint("h", i))
			require.NoError(t, a.ConsulLock(t.Context(), "p/a/.lock", func(context.Context) {
				p := c.Get("p/a/.lock")
				n, ok := c.Session(p.Session)
				assert.True(t, ok)
				assert.Equal(t, 15*time.Second, n.LockDelay)
				assert.Equal(t, a.Node, n.Node)
				time.Sleep(time.Minute)
			}))
			assert.Empty(t, c.Get("p/a/.lock").Session)
		}
	})
}

// TestDeletedToken finds that the servers do not hear of a check whose service was
// registered with a token that does not exist any more.
func TestDeletedToken(t *testing.T) {
	clustered(t, Config{}, func(t *testing.T, c *Cluster) {
		c.SetToken("", FullToken())
		c.SetToken("secret", FullToken())
		a := c.Agent("h1")
		client := a.Client(func(t http.RoundTripper) http.RoundTripper { return withToken{t, "secret"} })
		require.NoError(t, client.Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: "s", Name: "s", Check: &api.AgentServiceCheck{CheckID: "s", TTL: "3s", Status: "passing"},
		}))
		time.Sleep(time.Second)
		require.Equal(t, "passing", c.CheckStatus("h1", "s"))
		c.DeleteToken("secret")
		time.Sleep(10 * time.Second)
		assert.Equal(t, "passing", c.CheckStatus("h1", "s"))
		assert.ErrorContains(t, client.Agent().UpdateTTL("s", "", "passing"), "ACL not found")
	})
}

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Consul-Token", t.secret)
	return t.RoundTripper.RoundTrip(r)
}
