package consul

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/state"
)

// sent is a request as it reaches Consul.
type sent struct {
	path  string
	query url.Values
	body  string
}

// sentBy returns what a client with these flags sends when use calls it. Nothing is
// answered well.
func sentBy(t *testing.T, flags Flags, use func(context.Context, *Client)) []sent {
	t.Helper()
	var (
		mu  sync.Mutex
		all []sent
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, sent{r.URL.Path, r.URL.Query(), string(body)})
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer server.Close()
	client, err := flags.Connect(server.URL, "", hclog.NewNullLogger())
	require.NoError(t, err)
	use(t.Context(), client)
	client.Close()
	mu.Lock()
	defer mu.Unlock()
	return all
}

// requests are all that a client can send.
var requests = map[string]func(context.Context, *Client){
	"/v1/txn": func(ctx context.Context, c *Client) {
		_, _ = c.Commit(ctx, Unchanged("k", 0), Unchanged("k", 7), HeldBy("k", "s"), Acquire("k", nil, "s"),
			Release("k", nil, "s"), Enroll("k", nil, "s"), Set("k", nil), Delete("k"))
	},
	"/v1/kv/p/":                       func(ctx context.Context, c *Client) { _, _ = c.List(ctx, state.NewKeys("p")) },
	"/v1/kv/k":                        func(ctx context.Context, c *Client) { _, _ = c.ReadLock(ctx, "k") },
	"/v1/session/create":              func(ctx context.Context, c *Client) { _, _ = c.CreateSession(ctx, "n", "check", time.Minute) },
	"/v1/session/renew/s":             func(ctx context.Context, c *Client) { _ = c.RenewSession(ctx, "s") },
	"/v1/session/info/s":              func(ctx context.Context, c *Client) { _, _ = c.Session(ctx, "s") },
	"/v1/session/destroy/s":           func(ctx context.Context, c *Client) { _ = c.DestroySession(ctx, "s") },
	"/v1/agent/service/register":      func(ctx context.Context, c *Client) { _ = c.Register(ctx, Service{ID: "check", Name: "n"}) },
	"/v1/agent/check/update/id":       func(ctx context.Context, c *Client) { _ = c.PassCheck(ctx, "id", time.Minute) },
	"/v1/agent/self":                  func(ctx context.Context, c *Client) { _, _ = c.Agent(ctx) },
	authorizePath:                     func(ctx context.Context, c *Client) { _, _ = c.Lacking(ctx, needed) },
	"/v1/agent/service/deregister/id": func(ctx context.Context, c *Client) { _ = c.Deregister(ctx, "id") },
}

// bodies are the parts of a body that name a namespace and a partition of their own.
// Consul takes the ones of the address for none of them.
var bodies = map[string]struct {
	parts     func(t *testing.T, body string) []map[string]any
	partition bool // a part also names its partition
}{
	"/v1/txn": {func(t *testing.T, body string) (parts []map[string]any) {
		var ops []struct{ KV map[string]any }
		require.NoError(t, json.Unmarshal([]byte(body), &ops))
		for _, op := range ops {
			parts = append(parts, op.KV)
		}
		require.Len(t, parts, 8)
		return parts
	}, true},
	"/v1/session/create": {func(t *testing.T, body string) []map[string]any {
		var session struct{ ServiceChecks []map[string]any }
		require.NoError(t, json.Unmarshal([]byte(body), &session))
		require.Len(t, session.ServiceChecks, 1)
		return session.ServiceChecks
	}, false}, // the checks of a session are in its partition
	"/v1/agent/service/register": {func(t *testing.T, body string) []map[string]any {
		var service map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &service))
		return []map[string]any{service}
	}, true},
	authorizePath: {func(t *testing.T, body string) (parts []map[string]any) {
		require.NoError(t, json.Unmarshal([]byte(body), &parts))
		require.Len(t, parts, len(needed))
		return parts
	}, true},
}

func TestEveryRequestIsInTheTenancy(t *testing.T) {
	noEnvironment(t)
	for name, test := range map[string]struct {
		env                  map[string]string
		flags                Flags
		namespace, partition string
	}{
		"none":        {nil, Flags{}, "", ""},
		"flags":       {nil, Flags{namespace: "team", partition: "blue"}, "team", "blue"},
		"environment": {map[string]string{"CONSUL_NAMESPACE": "team", "CONSUL_PARTITION": "blue"}, Flags{}, "team", "blue"},
		"both":        {map[string]string{"CONSUL_NAMESPACE": "other", "CONSUL_PARTITION": "red"}, Flags{namespace: "team", partition: "blue"}, "team", "blue"},
		"namespace":   {nil, Flags{namespace: "team"}, "team", ""},
	} {
		for path, use := range requests {
			t.Run(name+path, func(t *testing.T) {
				for name, value := range test.env {
					t.Setenv(name, value)
				}
				all := sentBy(t, test.flags, use)
				require.NotEmpty(t, all)
				for _, r := range all {
					require.True(t, strings.HasPrefix(r.path, path), r.path)
					assert.Equal(t, test.namespace, r.query.Get("ns"))
					assert.Equal(t, test.partition, r.query.Get("partition"))
					assertTenancy(t, r, test.namespace, test.partition)
				}
			})
		}
	}
}

// assertTenancy looks at the parts of a body. Without a tenancy a part names none:
// Consul without Enterprise may refuse the fields.
func assertTenancy(t *testing.T, r sent, namespace, partition string) {
	t.Helper()
	body, ok := bodies[r.path]
	if !ok {
		assert.NotContains(t, r.body, "Namespace")
		return
	}
	wanted := map[string]string{"Namespace": namespace, "Partition": partition}
	if !body.partition {
		wanted["Partition"] = ""
	}
	for _, part := range body.parts(t, r.body) {
		for field, want := range wanted {
			got, named := part[field]
			assert.Equal(t, want != "", named, "%s in %v", field, part)
			if want != "" {
				assert.Equal(t, want, got)
			}
		}
	}
}

func TestCheckDatacenter(t *testing.T) {
	noEnvironment(t)
	for asked, refused := range map[string]bool{"": false, "dc1": false, "DC1": false, "dc2": true} {
		f := Flags{datacenter: asked}
		client, err := f.Connect("", "", hclog.NewNullLogger())
		require.NoError(t, err)
		err = client.CheckDatacenter(Agent{NodeName: "h1", Datacenter: "dc1"})
		if !refused {
			assert.NoError(t, err, asked)
			continue
		}
		require.ErrorIs(t, err, ErrDatacenter)
		assert.EqualError(t, err, "-datacenter=dc2: locks can be held only in the local Consul agent's datacenter, dc1")
	}
}
