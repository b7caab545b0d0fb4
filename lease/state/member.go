package state

import (
	"encoding/json"
	"maps"
	"slices"
)

// MaxPriority is the last of the priorities that a member may be given; 0 is the first.
const MaxPriority = 1000

// lastRank is what a member adds to its priorities while it ranks last: older
// instances, which know nothing of that, sort it last as well.
const lastRank = MaxPriority + 1

// Member is the value of a member key: an instance that can take locks over.
type Member struct {
	Node    string
	Session string
	// VIPs are the locks that the instance holds or contends for, with its
	// priority for each; lower goes first. See [Member.Priority].
	VIPs map[string]int
	// Ineligible are other locks that it is configured for, by the reason for which it
	// cannot take them now.
	Ineligible map[string][]string
	Version    string
	// Owner is what the instance wants the others to know about itself: all other
	// fields of the value.
	Owner Owner
}

// memberHead are a Member's own fields in JSON; those of its Owner follow.
type memberHead struct {
	Node       string              `json:"node"`
	Session    string              `json:"session"`
	VIPs       map[string]int      `json:"vips"`
	Ineligible map[string][]string `json:"ineligible,omitempty"`
	Version    string              `json:"version,omitempty"`
}

// memberFields are the names of a Member's own fields.
var memberFields = []string{"node", "session", "vips", "ineligible", "version"}

// MarshalJSON implements [json.Marshaler].
func (m Member) MarshalJSON() ([]byte, error) {
	return m.Owner.Inline(memberHead{m.Node, m.Session, m.VIPs, m.Ineligible, m.Version}, struct{}{})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (m *Member) UnmarshalJSON(object []byte) error {
	var head memberHead
	if err := json.Unmarshal(object, &head); err != nil {
		return err
	}
	owner, err := ownerOf(object, memberFields)
	if err != nil {
		return err
	}
	*m = Member{head.Node, head.Session, head.VIPs, head.Ineligible, head.Version, owner}
	return nil
}

// Same reports whether two entries say the same.
func (m Member) Same(o Member) bool {
	return m.Session == o.Session && maps.Equal(m.VIPs, o.VIPs) &&
		maps.EqualFunc(m.Ineligible, o.Ineligible, slices.Equal) && m.Owner == o.Owner
}

// Encode returns the value to write to the member key.
func (m Member) Encode() []byte {
	b, _ := json.Marshal(m) // a Member is strings, numbers and an encoded object
	return b
}

// RankLast makes the member the last in every ranking.
func (m Member) RankLast() {
	for name := range m.VIPs {
		m.VIPs[name] += lastRank
	}
}

// Priority is the member's priority for a lock, and whether it ranks behind all others
// whatever that is, because locks were taken from it.
func (m Member) Priority(name string) (priority int, last bool) {
	if priority = m.VIPs[name]; priority >= lastRank {
		return priority - lastRank, true
	}
	return priority, false
}
