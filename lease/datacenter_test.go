package lease

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/lease/consul"
)

// An instance of another datacenter than its agent's could never have a session.
func TestAnotherDatacenterEndsTheKeeper(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NotContains(t, r.URL.Path, "/v1/session/create")
		if r.URL.Path != "/v1/agent/self" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, `{"Config":{"NodeName":"h1","Datacenter":"dc1"}}`)
	}))
	defer server.Close()
	var flags consul.Flags
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	flags.Register(fs)
	require.NoError(t, fs.Parse([]string{"-datacenter=dc2"}))
	client, err := flags.Connect(server.URL, "", hclog.NewNullLogger())
	require.NoError(t, err)
	keeper := New(Config{Client: client, Prefix: "p", Service: "s", SessionTTL: ttl, CheckTTL: 3 * time.Second, Logger: hclog.NewNullLogger()})
	require.ErrorIs(t, keeper.Run(t.Context()), consul.ErrDatacenter)
}
