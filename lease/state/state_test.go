package state

import (
	"fmt"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewSortsTheKeys(t *testing.T) {
	s := New(NewKeys("p"), api.KVPairs{
		{Key: "p/", Value: []byte("a folder")},
		{Key: "p/10.77.0.100/.lock", Session: "s1", ModifyIndex: 11, Value: []byte(`{"state":"held","node":"h1"}`)},
		{Key: "p/10.77.0.100/pin", ModifyIndex: 13, Value: []byte("h2\n")},
		{Key: "p/10.77.0.100/release", ModifyIndex: 12, Value: []byte("h1\n")},
		{Key: "p/10.77.0.100/note", Value: []byte("an operator's")},
		{Key: "p/10.77.0.101/pin", Value: []byte("\n")},
		{Key: "p/10.77.0.102/pin", Value: []byte(" - ")},
		{Key: "p/.drain/", Value: []byte("a folder")},
		{Key: "p/.drain/h3", ModifyIndex: 14},
		{Key: "p/.drain/pin", Value: []byte("x")},
		{Key: "p/.members/release", Session: "s4", Value: []byte(`{"vips":{"10.77.0.100":7}}`)},
		{Key: "p/.members/h1", Value: []byte(`{"vips":{"10.77.0.100":7}}`)},
		{Key: "p/.members/h2", Session: "s2", Value: []byte(`garbage`)},
	}, 20)
	assert.Equal(t, uint64(20), s.Index)
	assert.Equal(t, 13, s.Count)
	assert.Equal(t, map[string]Lock{"10.77.0.100": {"s1", 11, Record{State: RecordHeld, Node: "h1"}}}, s.Locks)
	assert.Equal(t, map[string]Pin{"10.77.0.100": {"h2", 13}, "10.77.0.101": {}, "10.77.0.102": {Nobody, 0}}, s.Pins)
	assert.Equal(t, map[string]ReleaseRequest{"10.77.0.100": {"h1", 12}}, s.Requests)
	assert.Equal(t, map[string]Drain{"h3": {14}, "pin": {}}, s.Drains)
	assert.Equal(t, map[string]Member{"release": {Session: "s4", VIPs: map[string]int{"10.77.0.100": 7}}}, s.Members)
}

func TestNextReusesWhatHasNotChanged(t *testing.T) {
	keys := NewKeys("p")
	member := func(session string, index uint64) *api.KVPair {
		return &api.KVPair{Key: "p/.members/h1", Session: session, ModifyIndex: index, Value: []byte(`{"version":"2"}`)}
	}
	lock := func(session string, index uint64) *api.KVPair {
		return &api.KVPair{Key: "p/a/.lock", Session: session, ModifyIndex: index, Value: []byte(`{"state":"held","node":"h2"}`)}
	}
	// A value that is read again tells h2 and version 2.
	last := Next(nil, keys, List{Index: 20, Pairs: api.KVPairs{
		{Key: "p/.members/h1", Session: "s1", ModifyIndex: 5, Value: []byte(`{"version":"1"}`)},
		{Key: "p/a/.lock", Session: "s1", ModifyIndex: 6, Value: []byte(`{"state":"held","node":"h1"}`)},
	}})
	for name, test := range map[string]struct {
		list    List
		node    string
		version string
	}{
		"unchanged":       {List{Index: 21, Pairs: api.KVPairs{member("s1", 5), lock("s1", 6)}}, "h1", "1"},
		"written":         {List{Index: 21, Pairs: api.KVPairs{member("s1", 21), lock("s1", 20)}}, "h2", "2"},
		"other session":   {List{Index: 21, Pairs: api.KVPairs{member("s2", 5), lock("", 6)}}, "h2", "2"},
		"filtered":        {List{Index: 20, Filtered: true, Pairs: api.KVPairs{member("s1", 5), lock("s1", 6)}}, "h1", "1"},
		"another history": {List{Index: 20, History: 1, Pairs: api.KVPairs{member("s1", 5), lock("s1", 6)}}, "h2", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			next := Next(last, keys, test.list)
			require.NotSame(t, last, next)
			assert.Equal(t, test.node, next.Locks["a"].Record.Node)
			assert.Equal(t, test.version, next.Members["h1"].Version)
			assert.Equal(t, test.list.Pairs[0].Session, next.Members["h1"].Session)
			assert.Equal(t, test.list.History, next.History)
			assert.Equal(t, test.list.Filtered, next.Filtered)
			assert.Same(t, next, Next(next, keys, test.list))
		})
	}
}

// Next returns the same State only if nothing at all has changed.
func TestNextTellsEveryChange(t *testing.T) {
	pairs := func() api.KVPairs {
		return api.KVPairs{
			{Key: "p/.members/h1", Session: "s1", ModifyIndex: 5, Value: []byte(`{}`)},
			{Key: "p/.drain/h2", ModifyIndex: 7},
			{Key: "p/a/.lock", Session: "s1", ModifyIndex: 6, Value: []byte(`{"state":"held","node":"h1"}`)},
			{Key: "p/a/pin", ModifyIndex: 8, Value: []byte("h1")},
			{Key: "p/a/release", ModifyIndex: 9, Value: []byte("h1")},
			{Key: "p/a/note", ModifyIndex: 9},
		}
	}
	last := Next(nil, NewKeys("p"), List{Index: 20, Pairs: pairs()})
	require.Same(t, last, Next(last, NewKeys("p"), List{Index: 20, Pairs: pairs()}))
	assert.NotSame(t, last, Next(last, NewKeys("p"), List{Index: 21, Pairs: pairs()}))
	for i := range 6 {
		gone := pairs()
		assert.NotSame(t, last, Next(last, NewKeys("p"), List{Index: 20, Pairs: append(gone[:i:i], gone[i+1:]...)}), "without %s", gone[i].Key)
		if i == 5 {
			continue // a key with an unknown name: only its presence is known
		}
		written := pairs()
		written[i].ModifyIndex = 20
		assert.NotSame(t, last, Next(last, NewKeys("p"), List{Index: 20, Pairs: written}), "another %s", gone[i].Key)
	}
	assert.NotNil(t, New(NewKeys(""), nil, 0).Locks, "nothing equals a State that there is not")
}

// BenchmarkNext reads 5,000 locks of which one has changed.
func BenchmarkNext(b *testing.B) {
	keys := NewKeys("p")
	var pairs api.KVPairs
	for i := range 5000 {
		value := fmt.Sprintf(`{"state":"held","node":"h%d","interface":"eth0","mac":"06:a4:92:26:13:30","since":"2026-11-22T05:11:37Z",`+
			`"session":"cdf2f1b7-f7a0-bb14-0b56-5a95e5757f63","ttl":"30s","version":"0.1.0"}`, i%7)
		pairs = append(pairs, &api.KVPair{Key: fmt.Sprintf("p/10.77.%d.%d/.lock", i/250, i%250), Session: "s", ModifyIndex: uint64(i), Value: []byte(value)})
	}
	for name, last := range map[string]*State{"anew": nil, "from the last": New(keys, pairs, 5000)} {
		b.Run(name, func(b *testing.B) {
			for i := range b.N {
				pairs[i%5000].ModifyIndex += 5000
				Next(last, keys, List{Pairs: pairs, Index: uint64(5001 + i)})
				pairs[i%5000].ModifyIndex -= 5000
			}
		})
	}
}

func TestSessionsOf(t *testing.T) {
	s := New(NewKeys("p"), api.KVPairs{
		{Key: "p/.members/h1", Session: "s1", Value: []byte(`{}`)},
		{Key: "p/a/.lock", Session: "s1", Value: []byte(`{"state":"held","node":"h1"}`)},
		{Key: "p/b/.lock", Session: "s0", Value: []byte(`{"state":"held","node":"h1"}`)},
		{Key: "p/c/.lock", Value: []byte(`{"state":"held","node":"h1"}`)},
		{Key: "p/d/.lock", Session: "s2", Value: []byte(`{"state":"held","node":"h2"}`)},
	}, 1)
	assert.ElementsMatch(t, []string{"s1", "s0"}, s.SessionsOf("h1"), "each once, also one that only holds a lock")
	assert.Equal(t, []string{"s2"}, s.SessionsOf("h2"))
	assert.Empty(t, s.SessionsOf("h3"))
}

func TestKeys(t *testing.T) {
	for _, prefix := range []string{"web/vip", "/web/vip/"} {
		k := NewKeys(prefix)
		assert.Equal(t, "web/vip/", k.Folder())
		assert.Equal(t, "web/vip/10.77.0.100/.lock", k.Lock("10.77.0.100"))
		assert.Equal(t, "web/vip/10.77.0.100/pin", k.Pin("10.77.0.100"))
		assert.Equal(t, "web/vip/10.77.0.100/release", k.Release("10.77.0.100"))
		assert.Equal(t, "web/vip/.members/h1", k.Member("h1"))
		assert.Equal(t, "web/vip/.drain/h1", k.Drain("h1"))
	}
}
