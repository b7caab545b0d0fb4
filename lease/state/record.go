package state

import (
	"bytes"
	"encoding/json"
	"slices"
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
	// RecordContested is written by an owner that left the lock because a stranger has
	// the address. See [Contested].
	RecordContested RecordState = "contested"
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
	// At and Reason tell when and why the owner stopped: in every RecordReleased and
	// RecordContested, in a RecordHandover if From stopped before the transfer, and in
	// a RecordHeld if the owner released the lock but the address may still be in use.
	At     *time.Time
	Reason string
	// Before are the owners before this one whose kernel may still have the address.
	// An owner clears it after it has bound the address itself.
	Before []Before
	// Contested tells of a stranger that had the address in the last minutes.
	Contested *Contested
	// Hops counts how often a RecordHandover was forwarded since the owner From wrote
	// it, by members that could not take the lock.
	Hops int
	// Nonce is in every RecordHandover whose owner From still serves: the words of the
	// handover on the wire repeat it, so that no other frame passes for one. 12
	// hexadecimal digits; empty in the record of an older instance. In a RecordHeld it
	// only makes the record of a new tenure differ from the one before under the same
	// session: Consul counts a write of the same value as none.
	Nonce string
	// TookFrom is in a RecordHeld whose owner has taken the lock from this node, because
	// the node's host did not answer on the wire. Reason is ReasonHostDead then.
	TookFrom string
	// Unheard is a member that may be dead. The records of all later owners carry it;
	// nil: there is none.
	Unheard *Unheard
}

// Unheard is a member from which a lock was taken, because its host did not answer on the
// wire. A member that lives writes its key as soon as it hears of that: as long as the key
// is as it was, nothing shows that it does.
type Unheard struct {
	Node   string `json:"node"`
	Member uint64 `json:"member"` // the ModifyIndex of its member key then
}

// ReasonHostDead is the reason in a record with TookFrom.
const ReasonHostDead = "host-dead"

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

		Before    []Before   `json:"before,omitempty"`
		Contested *Contested `json:"contested,omitempty"`
		Hops      int        `json:"hops,omitempty"`
		Nonce     string     `json:"nonce,omitempty"`
		TookFrom  string     `json:"took_from,omitempty"`
		Unheard   *Unheard   `json:"unheard,omitempty"`
	}
)

// recordFields are the names of a record's own fields.
var recordFields = []string{"state", "from", "node", "since", "session", "ttl", "version", "at", "reason", "before", "contested", "hops", "nonce", "took_from"}

// MarshalJSON implements [json.Marshaler].
func (r Record) MarshalJSON() ([]byte, error) {
	return r.Owner.Inline(
		recordHead{r.State, r.From, r.Node},
		recordTail{r.Since, r.Session, r.TTL, r.Version, r.At, r.Reason, r.Before, r.Contested, r.Hops, r.Nonce, r.TookFrom, r.Unheard})
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
		Before: tail.Before, Contested: tail.Contested, Hops: tail.Hops,
		Nonce: tail.Nonce, TookFrom: tail.TookFrom, Unheard: tail.Unheard,
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
	case RecordContested:
		if r.Contested != nil {
			return r
		}
	}
	return Record{}
}

// Encode returns the value to write to the lock.
func (r Record) Encode() []byte {
	b, _ := json.Marshal(r) // a Record is strings, times and an encoded object
	return b
}

// Same reports whether two records say the same.
func (r Record) Same(o Record) bool { return bytes.Equal(r.Encode(), o.Encode()) }

// Stopped reports whether the address had left the previous owner's kernel when
// the record was written.
func (r Record) Stopped() bool {
	return r.State == RecordReleased || (r.State == RecordHandover && r.At != nil)
}

// TransferredTo reports whether the lock was transferred to node.
func (r Record) TransferredTo(node string) bool {
	return r.State == RecordHandover && r.Node == node
}

// MayAnswer lists everybody whose kernel may still have the address when a new
// owner finds this record. A record that tells nothing yields an entry without a
// node.
func (r Record) MayAnswer() []Before {
	switch {
	case r.State == RecordUnknown:
		return with(r.Before, Before{})
	case r.State == RecordHeld:
		return with(r.Before, Before{r.Node, r.Owner, r.TTL})
	case r.State == RecordHandover && r.At == nil:
		return with(r.Before, Before{r.From, r.Owner, r.TTL})
	}
	return r.Before
}

// with puts b at the head of a list, once.
func with(list []Before, b Before) []Before {
	all := []Before{b}
	for _, other := range list {
		if other != b {
			all = append(all, other)
		}
	}
	return all
}

// Orphaned is the meaning of r where no session is on the key: the successor of a
// handover may have served, and have died before it could write that.
func (r Record) Orphaned() Record {
	if r.State != RecordHandover {
		return r
	}
	return Record{
		State: RecordHeld, Node: r.Node, Session: r.Session, TTL: r.TTL, Version: r.Version,
		Before: r.MayAnswer(), Contested: r.Contested, Unheard: r.Unheard,
	}
}

// Deleted is what r means after its key was deleted: those that r names may still answer,
// and each of these members may have had the lock since. How they can be asked, their
// own descriptions tell.
func (r Record) Deleted(members []string) Record {
	before := r.Orphaned().MayAnswer()
	for _, node := range members {
		if !slices.ContainsFunc(before, func(b Before) bool { return b.Node == node }) {
			before = append(slices.Clip(before), Before{Node: node, TTL: r.TTL})
		}
	}
	return Record{State: RecordReleased, Node: r.Node, Reason: "its key was deleted", Before: before, Contested: r.Contested, Unheard: r.Unheard}
}

// Unserved is the record to leave behind by an owner that found r and never bound
// the address: it says the same about the owners before. That one of them had taken the
// lock was told when it did.
func (r Record) Unserved() Record {
	switch {
	case r.TookFrom != "":
		r.TookFrom, r.Reason = "", ""
		return r
	case r.State != RecordHandover:
		return r
	case r.At != nil:
		return Record{State: RecordReleased, Node: r.From, At: r.At, Reason: r.Reason, Before: r.Before, Contested: r.Contested, Unheard: r.Unheard}
	}
	return Record{
		State: RecordHeld, Node: r.From, Owner: r.Owner, TTL: r.TTL, Version: r.Version,
		Before: r.Before, Contested: r.Contested, Unheard: r.Unheard,
	}
}
