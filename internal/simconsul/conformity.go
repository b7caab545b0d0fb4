package simconsul

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hashicorp/consul/api"
)

// Subject is a Consul whose answers are checked: the simulated one or a real one.
type Subject struct {
	Transport http.RoundTripper // to the agent
	Address   string            // of the agent, as a URL has it
	Node      string            // of the agent
	Prefix    string            // of keys and services that nobody else uses, without a slash
	// Grant makes a token with these permissions, which every server knows. Nil: ACLs
	// are off.
	Grant func(Token) (secret string)
}

// conversation is one test of a subject.
type conversation struct {
	*testing.T
	Subject
	token string
}

// reply is an answer.
type reply struct {
	c      *conversation
	status int
	header http.Header
	body   string
}

// Conformity checks everything that the simulation claims about requests and answers
// against a Consul. What takes time and needs a fault is not in it.
func Conformity(t *testing.T, s Subject) {
	for i, test := range conformity {
		if test.acls != (s.Grant != nil) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			c := &conversation{T: t, Subject: s}
			c.Prefix = fmt.Sprintf("%s-%d", s.Prefix, i)
			if test.acls {
				c.token = s.Grant(FullToken())
			}
			test.run(c)
		})
	}
}

var conformity = []struct {
	name string
	acls bool
	run  func(c *conversation)
}{
	{"an empty prefix", false, emptyPrefix},
	{"one key", false, oneKey},
	{"the index of a list", false, listIndex},
	{"a blocking query", false, blockingQuery},
	{"deletion", false, deletion},
	{"a transaction", false, transaction},
	{"refused transactions", false, refusedTransactions},
	{"a transaction that passes a lock on", false, passingOn},
	{"malformed requests", false, malformed},
	{"a session", false, oneSession},
	{"refused sessions", false, refusedSessions},
	{"the end of a session", false, endOfSession},
	{"a lock-delay", false, lockDelay},
	{"a service", false, oneService},
	{"a check that ends a session", false, checkEndsSession},
	{"a TTL that runs out", false, ttlRunsOut},
	{"a critical check registered anew", false, registeredAnew},
	{"the agent", false, theAgent},
	{"ACLs that are off", false, aclsOff},
	{"an unknown token", true, unknownToken},
	{"keys that may not be read", true, hiddenKeys},
	{"what may not be done", true, forbidden},
	{"authorization", true, authorization},
}

// send sends a request. Path is below /v1; %s in it is the test's prefix.
func (c *conversation) send(method, path, body string) *reply {
	c.Helper()
	url := "http://" + c.Address + "/v1" + strings.ReplaceAll(path, "%s", c.Prefix)
	r, err := http.NewRequestWithContext(c.Context(), method, url, strings.NewReader(body))
	require.NoError(c, err)
	if c.token != "" {
		r.Header.Set("X-Consul-Token", c.token)
	}
	answer, err := c.Transport.RoundTrip(r)
	require.NoError(c, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(c, err)
	return &reply{c, answer.StatusCode, answer.Header, string(text)}
}

func (c *conversation) get(path string) *reply {
	c.Helper()
	return c.send(http.MethodGet, path, "")
}

func (c *conversation) put(path, body string) *reply {
	c.Helper()
	return c.send(http.MethodPut, path, body)
}

// is requires a status, and a text in the body; of a status of 200, all of the body.
func (r *reply) is(status int, body string) *reply {
	r.c.Helper()
	body = strings.ReplaceAll(body, "%s", r.c.Prefix)
	assert.Equal(r.c, status, r.status, r.body)
	if status == http.StatusOK {
		assert.Equal(r.c, body, strings.TrimSpace(r.body))
	} else {
		assert.Contains(r.c, r.body, body)
	}
	return r
}

// index is the one in the header, which must be there.
func (r *reply) index() uint64 {
	r.c.Helper()
	index, err := strconv.ParseUint(r.header.Get("X-Consul-Index"), 10, 64)
	require.NoError(r.c, err, "X-Consul-Index of %d %s", r.status, r.body)
	assert.NotZero(r.c, index)
	assert.Equal(r.c, "true", r.header.Get("X-Consul-KnownLeader"))
	assert.Equal(r.c, "0", r.header.Get("X-Consul-LastContact"))
	return index
}

// filtered is what the header says about keys that ACLs have hidden.
func (r *reply) filtered(want bool) *reply {
	r.c.Helper()
	assert.Equal(r.c, want, r.header.Get("X-Consul-Results-Filtered-By-ACLs") == "true", "filtered")
	return r
}

// decode reads a JSON body that may have only these fields.
func (r *reply) decode(into any) {
	r.c.Helper()
	require.Equal(r.c, http.StatusOK, r.status, r.body)
	assert.Equal(r.c, "application/json", r.header.Get("Content-Type"))
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.DisallowUnknownFields()
	require.NoError(r.c, decoder.Decode(into), r.body)
}

// entry is a key with all fields that Consul shows.
type entry struct {
	LockIndex                uint64
	Key                      string
	Flags                    uint64
	Value                    []byte
	Session                  string
	CreateIndex, ModifyIndex uint64
}

func (r *reply) entries() (entries []entry) {
	r.c.Helper()
	r.decode(&entries)
	return entries
}

// a reads the key a, which must exist.
func (c *conversation) a() entry {
	c.Helper()
	r := c.get("/kv/%s/a?consistent")
	entries := r.entries()
	require.Len(c, entries, 1)
	assert.Equal(c, entries[0].ModifyIndex, r.index(), "the index of one key is its own")
	return entries[0]
}

// txn runs a transaction. In the operations, 'a' is a quotation mark.
func (c *conversation) txn(ops ...string) *reply {
	c.Helper()
	body := `[{'KV':{` + strings.Join(ops, `}},{'KV':{`) + `}}]`
	return c.put("/txn", strings.ReplaceAll(strings.ReplaceAll(body, "'", `"`), "%s", c.Prefix))
}

// results are those of a transaction that was done.
func (r *reply) results() (entries []entry) {
	r.c.Helper()
	var body struct {
		Results []struct{ KV entry }
		Errors  []txnError
	}
	r.decode(&body)
	assert.Empty(r.c, body.Errors)
	for _, result := range body.Results {
		entries = append(entries, result.KV)
	}
	return entries
}

// refused are the reasons for which a transaction was not done, by operation.
func (r *reply) refused() map[int]string {
	r.c.Helper()
	require.Equal(r.c, http.StatusConflict, r.status, r.body)
	var body struct {
		Results []any
		Errors  []txnError
	}
	require.NoError(r.c, json.Unmarshal([]byte(r.body), &body), r.body)
	assert.Empty(r.c, body.Results)
	reasons := map[int]string{}
	for _, e := range body.Errors {
		reasons[e.OpIndex] = strings.ReplaceAll(e.What, r.c.Prefix, "%s")
	}
	return reasons
}

// session creates a session and ends it with the test.
func (c *conversation) session(body string) (id string) {
	c.Helper()
	var created struct{ ID string }
	c.put("/session/create", body).decode(&created)
	require.NotEmpty(c, created.ID)
	c.Cleanup(func() { destroy(c, id) })
	return created.ID
}

// destroy ends a session after the context of the test has ended.
func destroy(c *conversation, id string) {
	r, err := http.NewRequest(http.MethodPut, "http://"+c.Address+"/v1/session/destroy/"+id, nil)
	require.NoError(c, err)
	r.Header.Set("X-Consul-Token", c.token)
	if answer, err := c.Transport.RoundTrip(r); err == nil {
		answer.Body.Close()
	}
}

// aSession is a session that ends with nothing.
const aSession = `{"LockDelay":"0s","Checks":[]}`

// gone requires that a session ends soon.
func (c *conversation) gone(id string) {
	c.Helper()
	began := time.Now()
	for c.get("/session/info/"+id+"?consistent").body != "[]" {
		require.Less(c, time.Since(began), 5*time.Second, "the session goes on")
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *conversation) encoded(text string) string {
	return base64.StdEncoding.EncodeToString([]byte(text))
}

func emptyPrefix(c *conversation) {
	r := c.get("/kv/%s/?recurse").is(404, "")
	assert.Empty(c, r.body)
	// Consul watches the longest part of the prefix that begins a key of the store. So the
	// write of a neighbour wakes the query, whatever else the store has.
	time.AfterFunc(200*time.Millisecond, func() { c.put("/kv/%s-elsewhere", "") })
	began := time.Now()
	woken := c.get(fmt.Sprintf("/kv/%%s/?recurse&index=%d&wait=10s", r.index())).is(404, "")
	assert.Greater(c, woken.index(), r.index(), "a write elsewhere in the store wakes it")
	assert.Less(c, time.Since(began), 5*time.Second)
	c.send(http.MethodDelete, "/kv/%s-elsewhere", "").is(200, "true")
	c.get("/kv/%s/a").is(404, "").index()
}

func oneKey(c *conversation) {
	c.put("/kv/%s/a?flags=7", "one").is(200, "true")
	first := c.a()
	assert.Equal(c, entry{0, c.Prefix + "/a", 7, []byte("one"), "", first.ModifyIndex, first.ModifyIndex}, first)
	c.put("/kv/%s/a?flags=7", "one").is(200, "true")
	assert.Equal(c, first, c.a(), "a write of the same changes nothing")
	c.put("/kv/%s/a", "one").is(200, "true")
	second := c.a()
	assert.Greater(c, second.ModifyIndex, first.ModifyIndex)
	assert.Equal(c, first.CreateIndex, second.CreateIndex)
	c.put("/kv/%s/a", "").is(200, "true")
	assert.Empty(c, c.a().Value)
}

func listIndex(c *conversation) {
	c.put("/kv/%s/b", "1").is(200, "true")
	c.put("/kv/%s/a", "1").is(200, "true")
	c.put("/kv/%s-elsewhere", "1").is(200, "true")
	r := c.get("/kv/%s/?recurse")
	entries := r.entries()
	require.Len(c, entries, 2)
	assert.Equal(c, c.Prefix+"/a", entries[0].Key, "in order")
	assert.Equal(c, entries[0].ModifyIndex, r.index(), "a write elsewhere does not count")
	c.send(http.MethodDelete, "/kv/%s/a", "").is(200, "true")
	deleted := c.get("/kv/%s/?recurse")
	assert.Len(c, deleted.entries(), 1)
	assert.Greater(c, deleted.index(), r.index(), "a deletion counts")
	c.send(http.MethodDelete, "/kv/%s/b", "").is(200, "true")
	empty := c.get("/kv/%s/?recurse").is(404, "")
	c.put("/kv/%s-elsewhere", "2").is(200, "true")
	assert.Equal(c, empty.index(), c.get("/kv/%s/?recurse").is(404, "").index(), "the last deletion, not the last write")
	c.send(http.MethodDelete, "/kv/%s-elsewhere", "").is(200, "true")
}

func blockingQuery(c *conversation) {
	c.put("/kv/%s/a", "1").is(200, "true")
	index := c.get("/kv/%s/?recurse").index()
	path := fmt.Sprintf("/kv/%%s/?recurse&index=%d&wait=", index)
	began := time.Now()
	assert.Equal(c, index, c.get(path+"1s").index(), "nothing has changed")
	assert.GreaterOrEqual(c, time.Since(began), time.Second)
	assert.Less(c, time.Since(began), 2*time.Second)
	began = time.Now()
	assert.Equal(c, index, c.get(fmt.Sprintf("/kv/%%s/?recurse&index=%d&wait=1s", index+1_000_000)).index(), "an index that is far away")
	assert.GreaterOrEqual(c, time.Since(began), time.Second)
	time.AfterFunc(200*time.Millisecond, func() { c.put("/kv/%s/b", "") })
	assert.Greater(c, c.get(path+"10s").index(), index)
	began = time.Now()
	assert.Greater(c, c.get(path+"10s").index(), index, "an index that is passed already")
	assert.Less(c, time.Since(began), 5*time.Second)
}

func deletion(c *conversation) {
	c.send(http.MethodDelete, "/kv/%s/a", "").is(200, "true")
	c.send(http.MethodDelete, "/kv/%s/a?cas=7", "").is(200, "true") // it is gone: done
	c.put("/kv/%s/a", "1").is(200, "true")
	c.send(http.MethodDelete, "/kv/%s/a?cas=7", "").is(200, "false")
	c.put("/kv/%s/a?cas=7", "2").is(200, "false")
	c.put(fmt.Sprintf("/kv/%%s/a?cas=%d", c.a().ModifyIndex), "2").is(200, "true")
	c.send(http.MethodDelete, fmt.Sprintf("/kv/%%s/a?cas=%d", c.a().ModifyIndex), "").is(200, "true")
	c.put("/kv/%s/b", "1").is(200, "true")
	c.put("/kv/%s/c", "1").is(200, "true")
	c.send(http.MethodDelete, "/kv/%s/?recurse", "").is(200, "true")
	c.get("/kv/%s/?recurse").is(404, "")
}

func transaction(c *conversation) {
	id := c.session(aSession)
	lock := "'Verb':'lock','Key':'%s/a','Value':'" + c.encoded("one") + "','Flags':7,'Session':'" + id + "'"
	results := c.txn("'Verb':'check-not-exists','Key':'%s/a'", lock, "'Verb':'set','Key':'%s/b','Value':''").results()
	require.Len(c, results, 2, "what only checks that there is nothing has no result")
	index := results[0].ModifyIndex
	assert.Equal(c, []entry{
		{1, c.Prefix + "/a", 7, nil, id, index, index},
		{0, c.Prefix + "/b", 0, nil, "", index, index},
	}, results, "one index, and no values")
	assert.Equal(c, "one", string(c.a().Value))

	results = c.txn(fmt.Sprintf("'Verb':'check-index','Key':'%%s/a','Index':%d", index),
		"'Verb':'check-session','Key':'%s/a','Session':'"+id+"'", lock).results()
	assert.Equal(c, []uint64{index, index, index}, []uint64{results[0].ModifyIndex, results[1].ModifyIndex, results[2].ModifyIndex},
		"a lock with the same value and session changes nothing")
	results = c.txn("'Verb':'set','Key':'%s/a','Value':'"+c.encoded("two")+"'", "'Verb':'delete','Key':'%s/b'", "'Verb':'delete','Key':'%s/nothing'").results()
	require.Len(c, results, 1, "a deletion has no result")
	assert.Equal(c, id, results[0].Session, "a plain write leaves the session")
	assert.Greater(c, results[0].ModifyIndex, index)
	assert.Zero(c, results[0].LockIndex, "and forgets how often it was locked")
	results = c.txn("'Verb':'unlock','Key':'%s/a','Value':'','Session':'" + id + "'").results()
	assert.Empty(c, results[0].Session)
	assert.Empty(c, c.a().Value)
}

func refusedTransactions(c *conversation) {
	id, other := c.session(aSession), c.session(aSession)
	c.txn("'Verb':'lock','Key':'%s/a','Session':'" + id + "'").results()
	index := c.a().ModifyIndex
	nobody := "5e551011-0000-4000-8000-000000000000"
	r := c.txn(
		"'Verb':'check-not-exists','Key':'%s/a'",
		fmt.Sprintf("'Verb':'check-index','Key':'%%s/a','Index':%d", index+1_000_000),
		"'Verb':'check-index','Key':'%s/b','Index':7",
		"'Verb':'check-session','Key':'%s/a','Session':'"+other+"'",
		"'Verb':'check-session','Key':'%s/b','Session':'"+other+"'",
		"'Verb':'lock','Key':'%s/a','Session':'"+other+"'",
		"'Verb':'lock','Key':'%s/b','Session':'"+nobody+"'",
		"'Verb':'lock','Key':'%s/b'",
		"'Verb':'unlock','Key':'%s/a','Session':'"+other+"'",
		"'Verb':'unlock','Key':'%s/b','Session':'"+other+"'",
		"'Verb':'set','Key':'%s/c','Value':''",
	)
	assert.Equal(c, map[int]string{
		0: `key "%s/a" exists`,
		1: fmt.Sprintf(`failed index check for key "%%s/a", current modify index %d != %d`, index, index+1_000_000),
		2: `failed to check index, key "%s/b" doesn't exist`,
		3: fmt.Sprintf(`failed session check for key "%%s/a", current session %q != %q`, id, other),
		4: `failed to check session, key "%s/b" doesn't exist`,
		5: `failed to lock key "%s/a", lock is already held`,
		6: fmt.Sprintf(`invalid session %q`, nobody),
		7: `missing session`,
		8: `failed to unlock key "%s/a", lock isn't held, or is held by another session`,
		9: `failed to unlock key "%s/b", lock isn't held, or is held by another session`,
	}, r.refused(), "all reasons at once")
	c.get("/kv/%s/c").is(404, "")
	c.put("/kv/%s/a?acquire="+other, "").is(200, "false")
	c.put("/kv/%s/a?release="+other, "").is(200, "false")
	c.put("/kv/%s/a?acquire="+nobody, "").is(500, "invalid session")
	assert.Equal(c, map[int]string{0: "unknown KV operation: invent"}, c.txn("'Verb':'invent','Key':'%s/a'").refused())
}

// passingOn has one client lock a key for the session of another, in one transaction.
func passingOn(c *conversation) {
	id, other := c.session(aSession), c.session(aSession)
	c.put("/kv/%s/a?acquire="+id, "one").is(200, "true")
	results := c.txn("'Verb':'unlock','Key':'%s/a','Session':'"+id+"'", "'Verb':'lock','Key':'%s/a','Session':'"+other+"','Value':'"+c.encoded("two")+"'").results()
	require.Len(c, results, 2)
	a := c.a()
	assert.Equal(c, entry{2, c.Prefix + "/a", 0, []byte("two"), other, a.CreateIndex, results[1].ModifyIndex}, a)
	c.put("/kv/%s/a?release="+other, "three").is(200, "true")
	assert.Empty(c, c.a().Session)
}

func malformed(c *conversation) {
	c.put("/txn", "{").is(400, "Failed to parse body")
	c.send(http.MethodGet, "/txn", "").is(405, "method GET not allowed")
	c.send(http.MethodPost, "/kv/%s/a", "").is(405, "")
	c.put("/kv/", "").is(400, "Missing key name")
	ops := make([]string, maxOps)
	for i := range ops {
		ops[i] = fmt.Sprintf("'Verb':'set','Key':'%%s/%d','Value':''", i)
	}
	assert.Len(c, c.txn(ops...).results(), maxOps)
	c.txn(append(ops, ops[0])...).is(413, "Transaction contains too many operations (129 > 128)")
	c.get("/nothing").is(404, "")
	c.put("/session/create", "{").is(400, "Request decode failed")
}

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
