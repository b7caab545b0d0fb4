package simconsul

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shown is a session with all fields that Consul shows.
type shown struct {
	ID, Name, Node           string
	LockDelay                time.Duration
	Behavior, TTL            string
	NodeChecks               []string
	ServiceChecks            []struct{ ID, Namespace string }
	CreateIndex, ModifyIndex uint64
}

func oneSession(c *conversation) {
	id := c.session(`{"Name":"n","LockDelay":"0s","Behavior":"release","TTL":"30s","NodeChecks":["serfHealth"]}`)
	var renewed, info []shown
	c.put("/session/renew/"+id, "").decode(&renewed)
	require.Len(c, renewed, 1)
	index := renewed[0].CreateIndex
	assert.Equal(c, shown{id, "n", c.Node, 0, "release", "30s", []string{serfHealth}, nil, index, index}, renewed[0])
	r := c.get("/session/info/" + id)
	r.decode(&info)
	assert.GreaterOrEqual(c, r.index(), index)
	assert.Equal(c, renewed, info)
	var all []shown
	c.get("/session/node/" + c.Node).decode(&all)
	assert.Contains(c, all, renewed[0])

	plain := c.session("")
	c.get("/session/info/" + plain).decode(&info)
	index = info[0].CreateIndex
	assert.Equal(c, shown{plain, "", c.Node, 15 * time.Second, "release", "", []string{serfHealth}, nil, index, index}, info[0])

	nobody := "5e551011-0000-4000-8000-000000000000"
	c.put("/session/renew/"+nobody, "").is(404, "Session id '"+nobody+"' not found")
	c.get("/session/info/"+nobody).is(200, "[]").index()
	c.put("/session/destroy/"+nobody, "").is(200, "true")
}

func refusedSessions(c *conversation) {
	c.put("/session/create", `{"TTL":"5s"}`).is(500, "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]")
	c.put("/session/create", `{"TTL":"soon"}`).is(500, "Session TTL 'soon' invalid")
	c.put("/session/create", `{"ServiceChecks":[{"ID":"nothing-`+c.Prefix+`"}]}`).is(500, "Missing check 'nothing-%s' registration")
	c.put("/session/create", `{"Node":"nobody-`+c.Prefix+`"}`).is(500, "Missing node registration")
}

func endOfSession(c *conversation) {
	release, remove := c.session(aSession), c.session(`{"LockDelay":"0s","Behavior":"delete","Checks":[]}`)
	c.put("/kv/%s/a?acquire="+release, "one").is(200, "true")
	c.put("/kv/%s/b?acquire="+remove, "one").is(200, "true")
	index := c.get("/kv/%s/?recurse").index()
	c.put("/session/destroy/"+release, "").is(200, "true")
	a := c.a()
	assert.Equal(c, entry{1, c.Prefix + "/a", 0, []byte("one"), "", a.CreateIndex, a.ModifyIndex}, a)
	assert.Greater(c, a.ModifyIndex, index)
	c.put("/session/destroy/"+remove, "").is(200, "true")
	c.get("/kv/%s/b").is(404, "")
	c.put("/session/renew/"+release, "").is(404, "not found")
}

func lockDelay(c *conversation) {
	id, other := c.session(`{"LockDelay":"2s","Checks":[]}`), c.session(aSession)
	c.put("/kv/%s/a?acquire="+id, "").is(200, "true")
	c.put("/kv/%s/a?release="+id, "").is(200, "true")
	c.put("/kv/%s/a?acquire="+other, "").is(200, "true") // no delay after a release
	c.put("/kv/%s/a?release="+other, "").is(200, "true")
	c.put("/kv/%s/a?acquire="+id, "").is(200, "true")
	c.put("/session/destroy/"+id, "").is(200, "true")
	lock := "'Verb':'lock','Key':'%s/a','Session':'" + other + "'"
	assert.Equal(c, map[int]string{1: `failed to lock key "%s/a" due to lock delay`},
		c.txn("'Verb':'check-not-exists','Key':'%s/a'", lock).refused(), "before anything else is looked at")
	c.put("/kv/%s/a?acquire="+other, "").is(200, "false")
	time.Sleep(2100 * time.Millisecond)
	c.txn(lock).results()
}
