package simconsul

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
