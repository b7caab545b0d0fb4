package lease

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/internal/simconsul"
)

// An owner that may no longer read its lock does not take it for deleted. But it
// does not serve for ever without seeing it.
func TestAnOwnerThatCannotSeeItsLock(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		b.consul.On(simconsul.Only("/v1/kv/p/", simconsul.Filtered))
		b.consul.Put("p/other", "wakes the watch", "")
		time.Sleep(ttl - 5*time.Second)
		synctest.Wait()
		require.Empty(t, h.lost)
		b.consul.On(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, h.lost)

		b.consul.On(simconsul.Only("/v1/kv/p/", simconsul.Filtered))
		b.consul.Put("p/other", "wakes the watch", "")
		began := time.Since(b.start)
		assert.InDelta(t, ttl, <-h.lost-began, float64(5*time.Second))
		require.ErrorIs(t, h.ends(LockLost), ErrLockLost)
		b.consul.On(nil)
	})
}

// The agent reports the check under the token of the registration.
func TestRegistersAgainWithANewToken(t *testing.T) {
	const register, session = "PUT /v1/agent/service/register", "PUT /v1/session/create"
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		time.Sleep(time.Minute)
		require.Equal(t, 1, b.consul.Count(register))
		b.consul.On(simconsul.Only("/v1/agent/service/register", simconsul.Answer(500, "text/plain", "")))
		b.token.Set()
		time.Sleep(time.Minute)
		n := b.consul.Count(register)
		assert.Greater(t, n, 2, "it is tried again until it works")
		b.consul.On(nil)
		time.Sleep(time.Minute)
		assert.Equal(t, n+1, b.consul.Count(register))
		assert.Equal(t, 1, b.consul.Count(session))
		h.stops("done")
	})
}

// Consul refuses a transaction for a missing permission as for any other reason.
func TestRefusedTransactionChecksThePermissions(t *testing.T) {
	bubble(t, func(b *instance) {
		h := b.hold()
		<-h.held
		h.stops("done")
		time.Sleep(time.Minute)
		n := b.consul.Count("POST " + simconsul.AuthorizePath)
		b.consul.On(simconsul.Only("/v1/txn", simconsul.Answer(409, "application/json", `{"Errors":[{"OpIndex":1,"What":"Permission denied"}]}`)))
		h = b.hold()
		time.Sleep(time.Minute)
		assert.Greater(t, b.consul.Count("POST "+simconsul.AuthorizePath), n)
		b.consul.On(nil)
		<-h.held
		h.stops("done")
	})
}
