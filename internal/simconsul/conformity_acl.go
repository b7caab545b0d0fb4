package simconsul

import (
	"encoding/json"
	"net/http"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashicorp/consul/api"
)

func aclsOff(c *conversation) {
	asked := `[{"Resource":"key","Access":"read","Segment":"a"}]`
	c.send(http.MethodPost, "/internal/acl/authorize", asked).is(401, "ACL support disabled")
	c.put("/internal/acl/authorize", asked).is(405, "")
	c.get("/acl/token/self").is(401, "ACL support disabled")
}

func unknownToken(c *conversation) {
	c.token = "5ec0de00-0000-4000-8000-00000000dead"
	const why = "ACL not found"
	c.get("/kv/%s/?recurse").is(403, why)
	c.get("/kv/%s/a").is(403, why)
	c.put("/kv/%s/a", "").is(403, why)
	c.txn("'Verb':'set','Key':'%s/a','Value':''").is(403, why)
	c.put("/session/create", aSession).is(403, why)
	c.put("/session/renew/5e551011-0000-4000-8000-000000000000", "").is(403, why)
	c.get("/session/info/5e551011-0000-4000-8000-000000000000").is(403, why)
	c.get("/agent/self").is(403, why)
	c.refresh(api.HealthPassing).is(403, why)
	c.send(http.MethodPost, "/internal/acl/authorize", `[{"Resource":"key","Access":"read","Segment":"a"}]`).is(403, why)
	c.get("/acl/token/self").is(403, why)
}

func hiddenKeys(c *conversation) {
	c.put("/kv/%s/a/x", "1").is(200, "true")
	c.put("/kv/%s/b/x", "1").is(200, "true")
	whole := c.get("/kv/%s/?recurse").filtered(false)
	assert.Len(c, whole.entries(), 2)
	c.token = c.Grant(Token{Keys: map[string]string{c.Prefix + "/b/": "read"}})
	part := c.get("/kv/%s/?recurse").filtered(true)
	assert.Len(c, part.entries(), 1)
	assert.Equal(c, whole.index(), part.index(), "the index is that of all keys")
	assert.Less(c, c.get("/kv/%s/a/?recurse&consistent").is(404, "").filtered(true).index(), whole.index(), "of those below the prefix")
	c.get("/kv/%s/a/x").is(403, "Permission denied")
	c.token = ""
	c.get("/kv/%s/?recurse").is(404, "").filtered(false).index()
}

func forbidden(c *conversation) {
	full := c.token
	id := c.session(aSession)
	c.register("30s", api.HealthPassing)
	c.token = c.Grant(Token{Keys: map[string]string{c.Prefix: "read"}})
	c.put("/kv/%s/a", "").is(403, "Permission denied")
	reasons := c.txn("'Verb':'set','Key':'%s/a','Value':''", "'Verb':'check-index','Key':'%s/a','Index':7").refused()
	require.Len(c, reasons, 1, "nothing else is looked at")
	assert.Contains(c, reasons[0], "Permission denied")
	c.put("/session/create", aSession).is(403, "Permission denied")
	c.put("/session/renew/"+id, "").is(403, "Permission denied")
	c.put("/session/destroy/"+id, "").is(403, "Permission denied")
	c.get("/session/info/"+id).is(200, "[]").filtered(true).index()
	c.get("/agent/self").is(403, "Permission denied")
	c.put("/agent/service/register", `{"ID":"`+c.Prefix+`-2","Name":"consul-vip-conformity"}`).is(403, "Permission denied")
	c.refresh(api.HealthPassing).is(403, "Permission denied")
	c.put("/agent/service/deregister/%s", "").is(403, "Permission denied")
	c.token = full
	c.put("/agent/service/deregister/%s", "").is(200, "")
}

func authorization(c *conversation) {
	c.token = c.Grant(Token{Keys: map[string]string{c.Prefix: "read"}, Sessions: "write"})
	asked := []permission{
		{"key", "read", c.Prefix + "/a"}, {"key", "write", c.Prefix + "/a"}, {"session", "write", c.Node}, {"agent", "read", c.Node},
	}
	body, err := json.Marshal(asked)
	require.NoError(c, err)
	var answered []authorized
	c.send(http.MethodPost, "/internal/acl/authorize", string(body)).decode(&answered)
	var want []authorized
	for i := range asked {
		want = append(want, authorized{asked[i], i%2 == 0})
	}
	assert.Equal(c, want, answered)
	c.get("/internal/acl/authorize").is(405, "")
}
