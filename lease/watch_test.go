package lease

import (
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
)

func TestView(t *testing.T) {
	v := newView("p", api.KVPairs{
		{Key: "p/", Value: []byte("a folder")},
		{Key: "p/10.77.0.100/.lock", Session: "s1", ModifyIndex: 11, Value: []byte(`{"state":"held","node":"h1"}`)},
		{Key: "p/10.77.0.100/pin", Value: []byte("h2\n")},
		{Key: "p/10.77.0.100/release", ModifyIndex: 12, Value: []byte("h1\n")},
		{Key: "p/10.77.0.100/note", Value: []byte("of an operator")},
		{Key: "p/10.77.0.101/pin", Value: []byte("\n")},
		{Key: "p/10.77.0.102/pin", Value: []byte(" - ")},
		{Key: "p/.drain/", Value: []byte("a folder")},
		{Key: "p/.drain/h3"},
		{Key: "p/.drain/pin", Value: []byte("x")},
		{Key: "p/.members/release", Session: "s4", Value: []byte(`{"vips":{"10.77.0.100":7}}`)},
		{Key: "p/.members/h1", Value: []byte(`{"vips":{"10.77.0.100":7}}`)},
		{Key: "p/.members/h2", Session: "s2", Value: []byte(`garbage`)},
	}, 20)
	assert.Equal(t, map[string]lockState{"10.77.0.100": {"s1", 11, Record{State: StateHeld, Node: "h1"}}}, v.locks)
	assert.Equal(t, map[string]string{"10.77.0.100": "h2", "10.77.0.102": nobody}, v.pins)
	assert.Equal(t, map[string]releaseRequest{"10.77.0.100": {"h1", 12}}, v.requests)
	assert.Equal(t, map[string]bool{"h3": true, "pin": true}, v.drained)
	assert.Equal(t, map[string]member{"release": {Session: "s4", VIPs: map[string]int{"10.77.0.100": 7}}}, v.members)
}
