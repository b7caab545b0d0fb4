package simconsul

import (
	"fmt"
	"net/http"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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

// transferOfALock has one client lock a key for the session of another, in one transaction.
func transferOfALock(c *conversation) {
	id, other := c.session(aSession), c.session(aSession)
	c.put("/kv/%s/a?acquire="+id, "one").is(200, "true")
	results := c.txn("'Verb':'unlock','Key':'%s/a','Session':'"+id+"'", "'Verb':'lock','Key':'%s/a','Session':'"+other+"','Value':'"+c.encoded("two")+"'").results()
	require.Len(c, results, 2)
	a := c.a()
	assert.Equal(c, entry{2, c.Prefix + "/a", 0, []byte("two"), other, a.CreateIndex, results[1].ModifyIndex}, a)
	c.put("/kv/%s/a?release="+other, "three").is(200, "true")
	assert.Empty(c, c.a().Session)
}

// takeOfALock has a client unlock a key for another session, which has a lock-delay, and
// lock it for its own, in one transaction.
func takeOfALock(c *conversation) {
	other, id, third := c.session(`{"LockDelay":"15s","Checks":[]}`), c.session(aSession), c.session(aSession)
	c.put("/kv/%s/a?acquire="+other, "one").is(200, "true")
	index := c.a().ModifyIndex
	take := func(index uint64, from, to string) *reply {
		return c.txn(fmt.Sprintf("'Verb':'check-index','Key':'%%s/a','Index':%d", index),
			"'Verb':'unlock','Key':'%s/a','Flags':7,'Session':'"+from+"','Value':'"+c.encoded("two")+"'",
			"'Verb':'lock','Key':'%s/a','Flags':7,'Session':'"+to+"','Value':'"+c.encoded("two")+"'")
	}
	results := take(index, other, id).results()
	require.Len(c, results, 3)
	a := c.a()
	assert.Equal(c, entry{2, c.Prefix + "/a", 7, []byte("two"), id, a.CreateIndex, results[2].ModifyIndex}, a)
	assert.Greater(c, a.ModifyIndex, index)

	// The same again, as a try whose answer was lost: its index has moved, and the other
	// session has the lock no more.
	assert.Equal(c, map[int]string{
		0: fmt.Sprintf(`failed index check for key "%%s/a", current modify index %d != %d`, a.ModifyIndex, index),
		1: `failed to unlock key "%s/a", lock isn't held, or is held by another session`,
		2: `failed to lock key "%s/a", lock is already held`,
	}, take(index, other, third).refused())
	assert.Equal(c, a, c.a())

	// No lock-delay follows, and the end of the other session does not touch the lock.
	destroy(c, other)
	c.gone(other)
	assert.Equal(c, a, c.a())
	take(a.ModifyIndex, id, third).results()
	c.put("/kv/%s/a?release="+third, "three").is(200, "true")
	c.put("/kv/%s/a?acquire="+id, "four").is(200, "true")
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
