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

// unfitRank is what a member adds to its priority for a lock while its host is not fit for
// it: it comes behind all that are, also by an older instance's ranking.
const unfitRank = 2 * lastRank

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
	// Unfit are locks among VIPs that it takes only if no fit member is there, by the reason
	// why it is not fit for them.
	Unfit map[string][]string
	// Failing are locks that it holds, by what does not work there nevertheless.
	Failing map[string][]string
	Version string
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
	Unfit      map[string][]string `json:"unfit,omitempty"`
	Failing    map[string][]string `json:"failing,omitempty"`
	Version    string              `json:"version,omitempty"`
}

// memberFields are the names of a Member's own fields.
var memberFields = []string{"node", "session", "vips", "ineligible", "unfit", "failing", "version"}

// MarshalJSON implements [json.Marshaler].
func (m Member) MarshalJSON() ([]byte, error) {
	return m.Owner.Inline(memberHead{m.Node, m.Session, m.VIPs, m.Ineligible, m.Unfit, m.Failing, m.Version}, struct{}{})
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
	*m = Member{head.Node, head.Session, head.VIPs, head.Ineligible, head.Unfit, head.Failing, head.Version, owner}
	return nil
}

// Same reports whether two entries say the same.
func (m Member) Same(o Member) bool {
	return m.Session == o.Session && maps.Equal(m.VIPs, o.VIPs) &&
		maps.EqualFunc(m.Ineligible, o.Ineligible, slices.Equal) &&
		maps.EqualFunc(m.Unfit, o.Unfit, slices.Equal) &&
		maps.EqualFunc(m.Failing, o.Failing, slices.Equal) && m.Owner == o.Owner
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

// MarkUnfit notes that the host is not fit for a lock among VIPs, and why.
func (m Member) MarkUnfit(name, reason string) {
	m.VIPs[name] += unfitRank
	m.Unfit[reason] = append(m.Unfit[reason], name)
}

// Priority is the member's priority for a lock, and whether it ranks behind all others
// that are as fit, whatever that is, because locks were taken from it.
func (m Member) Priority(name string) (priority int, last bool) {
	if priority = m.VIPs[name] % unfitRank; priority >= lastRank {
		return priority - lastRank, true
	}
	return priority, false
}

// IsUnfit reports whether the member takes a lock only if no fit member is there.
func (m Member) IsUnfit(name string) bool { return m.VIPs[name] >= unfitRank }
