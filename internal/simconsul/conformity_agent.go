package simconsul

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashicorp/consul/api"
)

// register registers a service with a TTL check, and removes it with the test.
func (c *conversation) register(ttl, status string) {
	c.Helper()
	body := fmt.Sprintf(`{"ID":%q,"Name":"consul-vip-conformity","Check":{"CheckID":%[1]q,"TTL":%q,"Status":%q,"DeregisterCriticalServiceAfter":"1m"}}`, c.Prefix, ttl, status)
	c.put("/agent/service/register", body).is(200, "")
}

func (c *conversation) refresh(status string) *reply {
	c.Helper()
	return c.put("/agent/check/update/%s", fmt.Sprintf(`{"Status":%q,"Output":"alive"}`, status))
}

// sessionWithCheck creates a session with the service's check as soon as the catalog has
// it.
func (c *conversation) sessionWithCheck() (id string) {
	c.Helper()
	body := fmt.Sprintf(`{"LockDelay":"0s","TTL":"30s","NodeChecks":["serfHealth"],"ServiceChecks":[{"ID":%q}]}`, c.Prefix)
	began := time.Now()
	for {
		r := c.put("/session/create", body)
		if r.status == http.StatusOK {
			var created struct{ ID string }
			r.decode(&created)
			return created.ID
		}
		r.is(500, "Missing check '%s' registration")
		require.Less(c, time.Since(began), 10*time.Second)
		time.Sleep(10 * time.Millisecond)
	}
}

func oneService(c *conversation) {
	c.refresh(api.HealthPassing).is(404, `Unknown check ID "%s". Ensure that the check ID is passed, not the check name.`)
	c.put("/agent/service/deregister/%s", "").is(404, `Unknown service ID "%s". Ensure that the service ID is passed, not the service name.`)
	c.put("/agent/service/register", `{"ID":"x"}`).is(400, "Missing service name")
	c.register("30s", api.HealthPassing)
	id := c.sessionWithCheck()
	c.refresh(api.HealthPassing).is(200, "")
	c.put("/agent/check/pass/%s", "").is(200, "")
	c.refresh("well").is(400, "Invalid check status: 'well'")
	c.register("30s", api.HealthPassing)
	var info []shown
	c.get("/session/info/" + id + "?consistent").decode(&info)
	require.Len(c, info, 1, "registering the service anew does not end it")
	assert.Equal(c, c.Prefix, info[0].ServiceChecks[0].ID)
	c.put("/agent/service/deregister/%s", "").is(200, "")
	c.gone(id)
	c.refresh(api.HealthPassing).is(404, "Unknown check ID")
}

func checkEndsSession(c *conversation) {
	c.register("30s", api.HealthPassing)
	id := c.sessionWithCheck()
	c.put("/kv/%s/a?acquire="+id, "").is(200, "true")
	c.refresh(api.HealthWarning).is(200, "")
	c.refresh(api.HealthCritical).is(200, "")
	c.gone(id)
	assert.Empty(c, c.a().Session)
	body := fmt.Sprintf(`{"ServiceChecks":[{"ID":%q}]}`, c.Prefix)
	c.put("/session/create", body).is(500, "Check '%s' is in critical state")
	c.put("/agent/service/deregister/%s", "").is(200, "")
}

func ttlRunsOut(c *conversation) {
	c.register("2s", api.HealthPassing)
	id := c.sessionWithCheck()
	c.refresh(api.HealthPassing).is(200, "")
	refreshed := time.Now()
	c.gone(id)
	assert.GreaterOrEqual(c, time.Since(refreshed), 1900*time.Millisecond)
	assert.Less(c, time.Since(refreshed), 3500*time.Millisecond)
	c.put("/agent/service/deregister/%s", "").is(200, "")
}

// registeredAnew finds that a registration does not change the status that a check has.
func registeredAnew(c *conversation) {
	c.register("30s", api.HealthCritical)
	body := fmt.Sprintf(`{"ServiceChecks":[{"ID":%q}]}`, c.Prefix)
	time.Sleep(time.Second)
	c.put("/session/create", body).is(500, "Check '%s' is in critical state")
	c.register("30s", api.HealthPassing)
	time.Sleep(time.Second)
	c.put("/session/create", body).is(500, "Check '%s' is in critical state")
	c.refresh(api.HealthPassing).is(200, "")
	time.Sleep(time.Second)
	var created struct{ ID string }
	c.put("/session/create", body).decode(&created)
	c.put("/agent/service/deregister/%s", "").is(200, "")
	c.gone(created.ID)
}

func theAgent(c *conversation) {
	var self struct {
		Config      struct{ NodeName, Datacenter string }
		DebugConfig struct{ LeaveOnTerm *bool }
	}
	require.NoError(c, json.Unmarshal([]byte(c.get("/agent/self").body), &self))
	assert.Equal(c, c.Node, self.Config.NodeName)
	assert.Equal(c, "dc1", self.Config.Datacenter)
	assert.NotNil(c, self.DebugConfig.LeaveOnTerm)
	assert.NotEqual(c, `""`, c.get("/status/leader").body)
}
