package state

import (
	"encoding/json"
	"time"
)

// Before is an owner whose kernel may still have an address that has a new owner.
// A Before without a Node is an owner of whom nothing is known.
type Before struct {
	Node  string
	Owner Owner
	TTL   string // of its session
}

type (
	beforeHead struct {
		Node string `json:"node,omitempty"`
	}
	beforeTail struct {
		TTL string `json:"ttl,omitempty"`
	}
)

// beforeFields are the names of a Before's own fields.
var beforeFields = []string{"node", "ttl"}

// MarshalJSON implements [json.Marshaler].
func (b Before) MarshalJSON() ([]byte, error) {
	return b.Owner.Inline(beforeHead{b.Node}, beforeTail{b.TTL})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (b *Before) UnmarshalJSON(object []byte) error {
	var fields struct {
		beforeHead
		beforeTail
	}
	if err := json.Unmarshal(object, &fields); err != nil {
		return err
	}
	owner, err := ownerOf(object, beforeFields)
	if err != nil {
		return err
	}
	*b = Before{fields.Node, owner, fields.beforeTail.TTL}
	return nil
}

// OwnerTTL is how long after its last renewal the owner may answer, or fallback
// where that is not known.
func (b Before) OwnerTTL(fallback time.Duration) time.Duration {
	if d, err := time.ParseDuration(b.TTL); err == nil && d > 0 {
		return d
	}
	return fallback
}
