package state

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Operators' scripts and older instances read this JSON: names, values and the
// order of the fields stay as they are.
func TestRecordAsJSON(t *testing.T) {
	at := time.Date(2026, 11, 22, 5, 11, 37, 0, time.UTC)
	owner := Owner(`{"interface":"eth0","mac":"06:a4:92:26:13:30","alloc_id":"a"}`)
	for name, test := range map[string]struct {
		record Record
		json   string
	}{
		"held": {
			Record{State: RecordHeld, Node: "h1", Owner: owner, Since: &at, Session: "s1", TTL: "30s", Version: "v"},
			`{"state":"held","node":"h1","interface":"eth0","mac":"06:a4:92:26:13:30","alloc_id":"a","since":"2026-11-22T05:11:37Z","session":"s1","ttl":"30s","version":"v"}`,
		},
		"handover": {
			Record{State: RecordHandover, From: "h1", Node: "h2", Owner: owner, Session: "s2", TTL: "30s"},
			`{"state":"handover","from":"h1","node":"h2","interface":"eth0","mac":"06:a4:92:26:13:30","alloc_id":"a","session":"s2","ttl":"30s"}`,
		},
		"held, not bound yet": {
			Record{State: RecordHeld, Node: "h2", Session: "s2", Before: []Before{{"h1", owner, "30s"}, {}}},
			`{"state":"held","node":"h2","session":"s2","before":[{"node":"h1","interface":"eth0","mac":"06:a4:92:26:13:30","alloc_id":"a","ttl":"30s"},{}]}`,
		},
		"contested": {
			Record{State: RecordContested, Node: "h1", At: &at, Reason: "a claim", Contested: &Contested{MAC: "02:00:00:00:00:66", By: "h1", Tries: 2, Since: at, At: at}},
			`{"state":"contested","node":"h1","at":"2026-11-22T05:11:37Z","reason":"a claim","contested":{"mac":"02:00:00:00:00:66","by":"h1","tries":2,"since":"2026-11-22T05:11:37Z","at":"2026-11-22T05:11:37Z"}}`,
		},
		"forwarded": {
			Record{State: RecordHandover, From: "h1", Node: "h3", Session: "s3", Hops: 1},
			`{"state":"handover","from":"h1","node":"h3","session":"s3","hops":1}`,
		},
		"handover with a nonce": {
			Record{State: RecordHandover, From: "h1", Node: "h3", Session: "s3", Nonce: "0123456789ab"},
			`{"state":"handover","from":"h1","node":"h3","session":"s3","nonce":"0123456789ab"}`,
		},
		"taken": {
			Record{State: RecordHeld, Node: "h2", Session: "s2", Reason: ReasonHostDead, Before: []Before{{"h1", owner, "30s"}}, TookFrom: "h1"},
			`{"state":"held","node":"h2","session":"s2","reason":"host-dead","before":[{"node":"h1","interface":"eth0","mac":"06:a4:92:26:13:30","alloc_id":"a","ttl":"30s"}],"took_from":"h1"}`,
		},
		"released": {
			Record{State: RecordReleased, Node: "h1", At: &at, Reason: `stopped by signal: "terminated"`},
			`{"state":"released","node":"h1","at":"2026-11-22T05:11:37Z","reason":"stopped by signal: \"terminated\""}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.json, string(test.record.Encode()))
			assert.Equal(t, test.record, ParseRecord([]byte(test.json)))
		})
	}
}

func TestValuesThatAreNoRecord(t *testing.T) {
	for _, value := range []string{"", "null", "[]", "7", "{}", `{"state":"mine"}`, `{"state":"held"`, `{"state":"held"} x`, `{"state":7}`, "\x00"} {
		assert.Equal(t, Record{}, ParseRecord([]byte(value)), "%q", value)
	}
}

// A newer version may add fields, which a rewritten record keeps.
func TestUnknownFieldsAreTheOwners(t *testing.T) {
	const value = `{"state":"held","node":"h1","host":"10.77.0.1","link":[{"a":1}],"session":"s1"}`
	r := ParseRecord([]byte(value))
	assert.Equal(t, Owner(`{"host":"10.77.0.1","link":[{"a":1}]}`), r.Owner)
	assert.JSONEq(t, value, string(r.Encode()))
}

// An instance without the newest fields takes them for its own or the owner's, and
// writes them again. A newer one that reads that knows them.
func TestAnOlderInstanceKeepsTheNewestFields(t *testing.T) {
	older := slices.DeleteFunc(slices.Clone(recordFields), func(f string) bool { return f == "nonce" || f == "took_from" })
	for name, value := range map[string]string{
		"handover": `{"state":"handover","from":"h1","node":"h3","mac":"02:00:00:00:00:01","session":"s3","nonce":"0123456789ab"}`,
		"taken":    `{"state":"held","node":"h2","mac":"02:00:00:00:00:01","session":"s2","reason":"host-dead","before":[{"node":"h1","host":"10.77.0.1","ttl":"30s"}],"took_from":"h1"}`,
		"neither":  `{"state":"held","node":"h2","mac":"02:00:00:00:00:01","session":"s2"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := ParseRecord([]byte(value))
			read := r
			read.Nonce, read.TookFrom = "", ""
			var err error
			read.Owner, err = ownerOf([]byte(value), older)
			require.NoError(t, err)
			assert.JSONEq(t, value, string(read.Encode()))
			assert.Equal(t, r, ParseRecord(read.Encode()))

			// As an owner before: the fields are lost on nobody, and mean nothing there.
			before := Record{State: RecordHeld, Node: "h4", Before: read.MayAnswer()}
			again := ParseRecord(before.Encode())
			assert.Equal(t, before, again)
			assert.Empty(t, again.TookFrom)
		})
	}
}

func TestOwner(t *testing.T) {
	type link struct {
		Interface string `json:"interface,omitempty"`
	}
	o, err := NewOwner(link{"eth0"})
	require.NoError(t, err)
	var got link
	require.NoError(t, o.Decode(&got))
	assert.Equal(t, link{"eth0"}, got)

	require.NoError(t, Owner("").Decode(&got))
	assert.Equal(t, link{"eth0"}, got, "an empty owner says nothing")

	none, err := NewOwner(link{})
	require.NoError(t, err)
	assert.JSONEq(t, `{"state":"held","node":"h1"}`, string(Record{State: RecordHeld, Node: "h1", Owner: none}.Encode()))

	for _, v := range []any{7, "text", []int{1}, nil} {
		_, err := NewOwner(v)
		require.Error(t, err, "%v is no object", v)
	}
	_, err = NewOwner(make(chan int))
	var unsupported *json.UnsupportedTypeError
	require.ErrorAs(t, err, &unsupported)
}

func TestWhatARecordProves(t *testing.T) {
	at := time.Unix(0, 0)
	for name, test := range map[string]struct {
		record   Record
		stopped  bool
		orphaned RecordState
	}{
		"released":                        {Record{State: RecordReleased}, true, RecordReleased},
		"held":                            {Record{State: RecordHeld}, false, RecordHeld},
		"held, released uncleanly":        {Record{State: RecordHeld, At: &at}, false, RecordHeld},
		"handover by an owner":            {Record{State: RecordHandover}, false, RecordHeld},
		"handover after the owner's stop": {Record{State: RecordHandover, At: &at}, true, RecordHeld},
		"unknown":                         {Record{}, false, RecordUnknown},
	} {
		assert.Equal(t, test.stopped, test.record.Stopped(), name)
		assert.Equal(t, test.orphaned, test.record.Orphaned().State, name)
	}
	assert.True(t, Record{State: RecordHandover, Node: "h2"}.TransferredTo("h2"))
	assert.False(t, Record{State: RecordHandover, Node: "h2"}.TransferredTo("h1"))
	assert.False(t, Record{State: RecordHeld, Node: "h2"}.TransferredTo("h2"))
}

// The next owner makes sure of everybody whose kernel may still have the address.
func TestMayAnswer(t *testing.T) {
	at := time.Unix(0, 0)
	earlier := []Before{{Node: "h9", TTL: "15s"}}
	for name, test := range map[string]struct {
		record                Record
		mayAnswer, asOrphaned []string // the nodes
	}{
		"nothing known":                {Record{}, []string{""}, []string{""}},
		"released":                     {Record{State: RecordReleased, Node: "h1"}, nil, nil},
		"held":                         {Record{State: RecordHeld, Node: "h1"}, []string{"h1"}, []string{"h1"}},
		"held, not bound yet":          {Record{State: RecordHeld, Node: "h1", Before: earlier}, []string{"h1", "h9"}, []string{"h1", "h9"}},
		"held again, not bound yet":    {Record{State: RecordHeld, Node: "h9", TTL: "15s", Before: earlier}, []string{"h9"}, []string{"h9"}},
		"handover":                     {Record{State: RecordHandover, From: "h1", Node: "h2"}, []string{"h1"}, []string{"h2", "h1"}},
		"handover by a stopped owner":  {Record{State: RecordHandover, From: "h1", Node: "h2", At: &at}, nil, []string{"h2"}},
		"contested":                    {Record{State: RecordContested, Node: "h1", Contested: &Contested{}}, nil, nil},
		"contested, left behind a few": {Record{State: RecordContested, Node: "h1", Contested: &Contested{}, Before: earlier}, []string{"h9"}, []string{"h9"}},
	} {
		assert.Equal(t, test.mayAnswer, nodesOf(test.record.MayAnswer()), name)
		assert.Equal(t, test.asOrphaned, nodesOf(test.record.Orphaned().MayAnswer()), name)
		if test.record.State != RecordUnknown {
			assert.Equal(t, test.mayAnswer, nodesOf(test.record.Unserved().MayAnswer()), "%s: an owner that never bound the address changes nothing", name)
		}
	}
}

func nodesOf(list []Before) (nodes []string) {
	for _, b := range list {
		nodes = append(nodes, b.Node)
	}
	return nodes
}

func TestContestedBackoff(t *testing.T) {
	for tries, want := range map[int]time.Duration{
		-1: 0, 0: 0, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1 << 40: time.Minute,
	} {
		assert.Equal(t, want, (&Contested{Tries: tries}).Backoff(), tries)
	}
	assert.Zero(t, (*Contested)(nil).Backoff())
	assert.Equal(t, Record{}, ParseRecord([]byte(`{"state":"contested","node":"h1"}`)), "by whom?")
}

func TestOwnerTTL(t *testing.T) {
	for ttl, want := range map[string]time.Duration{"15s": 15 * time.Second, "": time.Minute, "0s": time.Minute, "-1s": time.Minute, "soon": time.Minute} {
		assert.Equal(t, want, Before{TTL: ttl}.OwnerTTL(time.Minute), ttl)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"state":"held","node":"h1","interface":"eth0","since":"2026-11-22T05:11:37Z"}`))
	f.Add([]byte(`{"state":"held","node":"h2","reason":"host-dead","took_from":"h1","nonce":"0123456789ab"}`))
	f.Add([]byte(`{"state":"released","x":{"y":[1,null]},"at":null}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r := ParseRecord(value)
		if again := ParseRecord(r.Encode()); r.State != RecordUnknown {
			assert.Equal(t, r, again, "what was read can be written and read again")
		}
	})
}

func TestRecordOfADeletedKey(t *testing.T) {
	held := Record{State: RecordHeld, Node: "h1", Owner: `{"mac":"m1"}`, TTL: "30s", Before: []Before{{Node: "h4"}}}
	h1 := Before{"h1", held.Owner, "30s"}
	assert.Equal(t, []Before{h1, {Node: "h4"}, {Node: "h2", TTL: "30s"}}, held.Deleted([]string{"h2", "h4"}).MayAnswer())
	assert.Equal(t, []Before{{Node: "h2"}}, Record{State: RecordReleased, Node: "h1"}.Deleted([]string{"h2"}).MayAnswer())
	passing := Record{State: RecordHandover, From: "h1", Node: "h2", Owner: held.Owner, TTL: "30s"}
	assert.Equal(t, []Before{{Node: "h2", TTL: "30s"}, h1}, passing.Deleted([]string{"h1", "h2"}).MayAnswer(), "both may have it")
}

func TestATakeIsToldOnce(t *testing.T) {
	took := Record{State: RecordHeld, Node: "h2", TookFrom: "h1", Reason: ReasonHostDead, Before: []Before{{Node: "h1"}}}
	assert.Equal(t, Record{State: RecordHeld, Node: "h2", Before: took.Before}, took.Unserved())
}
