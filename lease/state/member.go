package state

import (
	"encoding/json"
	"maps"
	"slices"
)

// Member is the value of a member key: an instance that can take locks over.
type Member struct {
	Node    string `json:"node"`
	Session string `json:"session"`
	// VIPs are the locks that the instance holds or contends for, with its
	// priority for each; lower goes first.
	VIPs map[string]int `json:"vips"`
	// Ineligible are other locks that it is configured for, by the reason for which it
	// cannot take them now.
	Ineligible map[string][]string `json:"ineligible,omitempty"`
	Version    string              `json:"version,omitempty"`
}

// Same reports whether two entries say the same.
func (m Member) Same(o Member) bool {
	return m.Session == o.Session && maps.Equal(m.VIPs, o.VIPs) &&
		maps.EqualFunc(m.Ineligible, o.Ineligible, slices.Equal)
}

// Encode returns the value to write to the member key.
func (m Member) Encode() []byte {
	b, _ := json.Marshal(m) // a Member is strings and numbers
	return b
}
