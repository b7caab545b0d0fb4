package lease

import (
	"encoding/json"
	"time"

	"github.com/hashicorp/consul/api"
)

// State says what a lock's record claims about the last one who held it.
type State string

// The states a record can be in. Anything else in a lock's value, or nothing
// at all, is StateUnknown: somebody who is not consul-vip wrote it.
const (
	// StateUnknown leaves open whether the last owner still answers on the wire.
	StateUnknown State = ""
	// StateHeld was written on acquiring. With no session on the key it means
	// that its owner ended without saying goodbye.
	StateHeld State = "held"
	// StateHandover was written by an owner for its successor, whose session is
	// on the key: From still serves, and says on the wire when it has ended. With
	// a time At it has ended already.
	StateHandover State = "handover"
	// StateReleased was written after the address had left the owner's kernel.
	StateReleased State = "released"
)

// Owner is what the caller of [Keeper.Hold] wants readers of the lock to know
// about itself.
type Owner struct {
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
	// Under Nomad: the allocation and the job that the instance runs as.
	AllocID string `json:"alloc_id,omitempty"`
	Job     string `json:"job,omitempty"`
}

// Record is the value of a lock: one line of JSON for whoever asks
// `consul kv get` who has the address.
type Record struct {
	State State  `json:"state"`
	From  string `json:"from,omitempty"` // StateHandover: who gives, its interface and MAC below
	Node  string `json:"node"`
	Owner
	Since   *time.Time `json:"since,omitempty"`
	Session string     `json:"session,omitempty"`
	TTL     string     `json:"ttl,omitempty"`
	Version string     `json:"version,omitempty"`

	// At and Reason belong to StateReleased, and to StateHandover where From had
	// let go before it handed the lock over.
	At     *time.Time `json:"at,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

// ParseRecord reads a lock's value. A value that is no record of ours, such
// as the empty one that `consul lock` writes, is a Record of StateUnknown.
func ParseRecord(value []byte) Record {
	var r Record
	if json.Unmarshal(value, &r) != nil {
		return Record{}
	}
	switch r.State {
	case StateHeld, StateHandover, StateReleased:
		return r
	}
	return Record{}
}

// OwnerTTL is the session TTL the record's owner ran with, or fallback where
// the record does not say.
func (r Record) OwnerTTL(fallback time.Duration) time.Duration {
	if d, err := time.ParseDuration(r.TTL); err == nil && d > 0 {
		return d
	}
	return fallback
}

// LetGo reports whether the address had left the last owner's kernel when the
// record was written.
func (r Record) LetGo() bool {
	return r.State == StateReleased || (r.State == StateHandover && r.At != nil)
}

// handedTo reports whether the lock was handed over to node.
func (r Record) handedTo(node string) bool { return r.State == StateHandover && r.Node == node }

// orphaned is what r says where no session is on the key. One that was handed
// the lock may have served, and have died before it could write so.
func (r Record) orphaned() Record {
	if r.State != StateHandover {
		return r
	}
	return Record{State: StateHeld, Node: r.Node, Session: r.Session, TTL: r.TTL, Version: r.Version}
}

// encode cannot fail: a Record is strings and times.
func (r Record) encode() []byte {
	b, _ := json.Marshal(r)
	return b
}

// member is the value of PREFIX/.members/NODE: who is there to take over, and
// the locks it holds or contends for, with its priority for each.
type member struct {
	Node    string         `json:"node"`
	Session string         `json:"session"`
	VIPs    map[string]int `json:"vips"`
	Version string         `json:"version,omitempty"`
}

func (m member) encode() []byte {
	b, _ := json.Marshal(m)
	return b
}

// lockPair is a write to a lock. The flag is the one `consul lock` looks for; it
// refuses a key without it, so it is set on acquire and on release alike.
func lockPair(verb api.KVOp, key string, r Record, session string) *api.KVTxnOp {
	return &api.KVTxnOp{Verb: verb, Key: key, Value: r.encode(), Flags: api.LockFlagValue, Session: session}
}
