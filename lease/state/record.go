package state

import (
	"encoding/json"
	"time"
)

// RecordState says what a lock's record claims about the last holder.
type RecordState string

// The states of a record. Anything else in a lock's value, or an empty value, is
// RecordUnknown: another program wrote it.
const (
	// RecordUnknown leaves open whether the previous owner still answers on the
	// wire.
	RecordUnknown RecordState = ""
	// RecordHeld is written on acquiring. Without a session on the key it means
	// that the owner ended without a release.
	RecordHeld RecordState = "held"
	// RecordHandover is written by an owner for its successor, whose session is on
	// the key. The owner, From, still serves and says on the wire when it has
	// stopped. Where At is set it had stopped before.
	RecordHandover RecordState = "handover"
	// RecordReleased is written after the address has left the owner's kernel.
	RecordReleased RecordState = "released"
)

// Record is the value of a lock: one line of JSON for everybody who asks
// `consul kv get` for the owner of an address.
type Record struct {
	State RecordState
	From  string // RecordHandover: the owner that transfers; Owner below is its
	Node  string
	Owner Owner
	Since *time.Time
	// Session and TTL are the holder's session and the session's TTL.
	Session string
	TTL     string
	Version string
	// At and Reason tell when and why the owner stopped: in every RecordReleased,
	// in a RecordHandover if From stopped before the transfer, and in a RecordHeld
	// if the owner released the lock but the address may still be in use.
	At     *time.Time
	Reason string
}

// The JSON of a record: its head, the owner's fields, its tail.
type (
	recordHead struct {
		State RecordState `json:"state"`
		From  string      `json:"from,omitempty"`
		Node  string      `json:"node"`
	}
	recordTail struct {
		Since   *time.Time `json:"since,omitempty"`
		Session string     `json:"session,omitempty"`
		TTL     string     `json:"ttl,omitempty"`
		Version string     `json:"version,omitempty"`
		At      *time.Time `json:"at,omitempty"`
		Reason  string     `json:"reason,omitempty"`
	}
)

// recordFields are the names of a record's own fields.
var recordFields = []string{"state", "from", "node", "since", "session", "ttl", "version", "at", "reason"}

// MarshalJSON implements [json.Marshaler].
func (r Record) MarshalJSON() ([]byte, error) {
	return r.Owner.Inline(
		recordHead{r.State, r.From, r.Node},
		recordTail{r.Since, r.Session, r.TTL, r.Version, r.At, r.Reason})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (r *Record) UnmarshalJSON(object []byte) error {
	var fields struct {
		recordHead
		recordTail
	}
	if err := json.Unmarshal(object, &fields); err != nil {
		return err
	}
	owner, err := ownerOf(object, recordFields)
	if err != nil {
		return err
	}
	head, tail := fields.recordHead, fields.recordTail
	*r = Record{
		State: head.State, From: head.From, Node: head.Node, Owner: owner,
		Since: tail.Since, Session: tail.Session, TTL: tail.TTL, Version: tail.Version,
		At: tail.At, Reason: tail.Reason,
	}
	return nil
}

// ParseRecord reads a lock's value. A value that is not a record, such as the
// empty one that `consul lock` writes, is a Record of RecordUnknown.
func ParseRecord(value []byte) Record {
	var r Record
	if json.Unmarshal(value, &r) != nil {
		return Record{}
	}
	switch r.State {
	case RecordHeld, RecordHandover, RecordReleased:
		return r
	}
	return Record{}
}

// Encode returns the value to write to the lock.
func (r Record) Encode() []byte {
	b, _ := json.Marshal(r) // a Record is strings, times and an encoded object
	return b
}

// OwnerTTL is the TTL of the owner's session, or fallback where the record does
// not name it.
func (r Record) OwnerTTL(fallback time.Duration) time.Duration {
	if d, err := time.ParseDuration(r.TTL); err == nil && d > 0 {
		return d
	}
	return fallback
}

// Stopped reports whether the address had left the previous owner's kernel when
// the record was written.
func (r Record) Stopped() bool {
	return r.State == RecordReleased || (r.State == RecordHandover && r.At != nil)
}

// TransferredTo reports whether the lock was transferred to node.
func (r Record) TransferredTo(node string) bool {
	return r.State == RecordHandover && r.Node == node
}

// Orphaned is the meaning of r where no session is on the key: the successor of a
// handover may have served, and have died before it could write that.
func (r Record) Orphaned() Record {
	if r.State != RecordHandover {
		return r
	}
	return Record{State: RecordHeld, Node: r.Node, Session: r.Session, TTL: r.TTL, Version: r.Version}
}
