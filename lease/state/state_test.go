package state

import (
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
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
