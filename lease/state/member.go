package state

import "encoding/json"

// Member is the value of a member key: an instance that can take locks over.
type Member struct {
	Node    string `json:"node"`
	Session string `json:"session"`
	// VIPs are the locks that the instance holds or contends for, with its
	// priority for each; lower goes first.
	VIPs    map[string]int `json:"vips"`
	Version string         `json:"version,omitempty"`
}

// Encode returns the value to write to the member key.
func (m Member) Encode() []byte {
	b, _ := json.Marshal(m) // a Member is strings and numbers
	return b
}
