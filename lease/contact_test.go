package lease

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
)

// TestContact follows what an instance knows of Consul, before and during an outage that ends
// its session, and after it.
func TestContact(t *testing.T) {
	bubble(t, func(b *instance) {
		require.Equal(t, Contact{}, b.keeper.Contact(), "nothing has run yet")
		time.Sleep(20 * time.Second)
		c := b.keeper.Contact()
		require.NotEmpty(t, c.Node)
		require.Equal(t, b.consul.Sessions()[0], c.Session)
		require.LessOrEqual(t, c.Left, ttl-Margin)
		require.Greater(t, c.Left, ttl-Margin-2*longestRenewInterval)
		require.WithinDuration(t, time.Now(), c.Answered, longestRenewInterval)
		require.Zero(t, c.FailingSince)
		require.NoError(t, c.Err)

		down := time.Now()
		b.consul.On(simconsul.Answer(http.StatusInternalServerError, "text/plain", "No cluster leader"))
		time.Sleep(15 * time.Second)
		out := b.keeper.Contact()
		require.Equal(t, c.Session, out.Session)
		require.Less(t, out.Left, c.Left-9*time.Second, "the deadline stays where it is")
		require.False(t, out.Answered.After(down.Add(6*time.Second)), "the query under way is still answered")
		require.WithinDuration(t, down, out.FailingSince, 6*time.Second)
		require.ErrorContains(t, out.Err, "No cluster leader")
		since := out.FailingSince

		time.Sleep(ttl)
		out = b.keeper.Contact()
		require.Empty(t, out.Session)
		require.Zero(t, out.Left)
		require.Equal(t, c.Node, out.Node)
		require.Equal(t, since, out.FailingSince, "it is the first failure")

		b.consul.On(nil)
		time.Sleep(20 * time.Second)
		out = b.keeper.Contact()
		require.NotEmpty(t, out.Session)
		require.NotEqual(t, c.Session, out.Session)
		require.Zero(t, out.FailingSince)
		require.NoError(t, out.Err)
	})
}
