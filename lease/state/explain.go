package state

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The states of a lock as seen from outside.
const (
	StatusHeld    = "held"    // an instance holds it
	StatusForeign = "foreign" // another program holds it, such as `consul lock`
	StatusFree    = "free"    // no session is on it
	StatusUnknown = "unknown" // its key is not in a list that is incomplete
)

// Names lists every lock that exists or has a candidate, in order.
func (s *State) Names() []string {
	names := map[string]bool{}
	for name := range s.Locks {
		names[name] = true
	}
	for _, m := range s.Members {
		for name := range m.VIPs {
			names[name] = true
		}
		for _, ineligible := range m.Ineligible {
			for _, name := range ineligible {
				names[name] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(names), compareNames)
}

// compareNames orders addresses as numbers, and other names after them.
func compareNames(a, b string) int {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	switch {
	case errX == nil && errY == nil:
		return x.Compare(y)
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a, b)
}

// CheckName returns an error that lists the known addresses unless name is one of
// them.
func (s *State) CheckName(name string) error {
	names := s.Names()
	switch {
	case slices.Contains(names, name):
		return nil
	case s.Filtered:
		return fmt.Errorf("no address %s below %s to be seen, %w; known addresses: %s", name, s.keys.Folder(), ErrIncomplete, enumerate(names))
	case len(names) == 0:
		return fmt.Errorf("no address %s below %s, and no other address either", name, s.keys.Folder())
	}
	return fmt.Errorf("no address %s below %s; known addresses: %s", name, s.keys.Folder(), enumerate(names))
}

// enumerate lists the first 20 names and counts the others.
func enumerate(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// Owner returns the state of a lock: StatusHeld with the node that holds it,
// StatusForeign, StatusFree or StatusUnknown.
func (s *State) Owner(name string) (status, node string) {
	l := s.Locks[name]
	if !s.LockKnown(name) {
		return StatusUnknown, ""
	}
	switch l.Session {
	case "":
		return StatusFree, ""
	case l.Record.Session:
		return StatusHeld, l.Record.Node
	}
	return StatusForeign, ""
}

// ServedBy is the node that holds a lock and has bound the address. It is empty
// where there is none.
func (s *State) ServedBy(name string) string {
	if r := s.Locks[name].Record; r.State == RecordHeld && len(r.Before) == 0 {
		_, node := s.Owner(name)
		return node
	}
	return ""
}

// Contenders lists the members that hold a lock or contend for it, by name.
func (s *State) Contenders(name string) []string {
	var nodes []string
	for node, m := range s.Members {
		if _, ok := m.VIPs[name]; ok {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// WhyIneligible is the reason for which a member that is configured for a lock
// cannot take it now, as that member says. It is empty where there is none.
func (s *State) WhyIneligible(name, node string) string {
	return reasonFor(name, s.Members[node].Ineligible)
}

// WhyUnfit is the reason for which a member takes a lock only if no fit member is there, as
// that member says. It is empty where there is none.
func (s *State) WhyUnfit(name, node string) string {
	return reasonFor(name, s.Members[node].Unfit)
}

// reasonFor is the reason under which a lock is listed; empty: none.
func reasonFor(name string, reasons map[string][]string) string {
	for reason, names := range reasons {
		if slices.Contains(names, name) {
			return reason
		}
	}
	return ""
}

// failing tells what does not work where a lock is held.
func (s *State) failing(name string) string {
	_, owner := s.Owner(name)
	if reason := reasonFor(name, s.Members[owner].Failing); reason != "" {
		return fmt.Sprintf("failing on %s: %s", owner, reason)
	}
	return ""
}

// unfit lists the members that are not fit for a lock, with their reasons.
func (s *State) unfit(name string) (list []string) {
	for _, node := range slices.Sorted(maps.Keys(s.Members)) {
		if reason := s.WhyUnfit(name, node); reason != "" {
			list = append(list, fmt.Sprintf("%s is not fit: %s", node, reason))
		}
	}
	return list
}

// ineligible lists the members that cannot take a lock now, with their reasons, except the
// one that it is pinned to.
func (s *State) ineligible(name string) []string {
	var list []string
	for _, node := range slices.Sorted(maps.Keys(s.Members)) {
		if reason := s.WhyIneligible(name, node); reason != "" && node != s.Pin(name) {
			list = append(list, fmt.Sprintf("%s cannot take it: %s", node, reason))
		}
	}
	return list
}

// ContendersText lists the contenders for people, as a part of a sentence.
func (s *State) ContendersText(name string) string {
	nodes := s.Contenders(name)
	switch {
	case len(nodes) == 0 && s.Filtered:
		return fmt.Sprintf("no node is known to contend for it, %v", ErrIncomplete)
	case len(nodes) == 0:
		return "no node contends for it"
	}
	_, owner := s.Owner(name)
	for i, node := range nodes {
		_, last := s.Members[node].Priority(name)
		switch {
		case s.Drained(node):
			nodes[i] += " (drained)"
		case node == owner:
			nodes[i] += " (owner)"
		case s.Members[node].IsUnfit(name):
			nodes[i] += " (not fit)"
		case last:
			nodes[i] += " (ranks last: its host did not answer)"
		}
	}
	text := "members: " + enumerate(nodes)
	if s.Filtered {
		text += "; " + ErrIncomplete.Error()
	}
	return text
}

// Situation tells people the state of a lock, as a part of a sentence.
func (s *State) Situation(name string) string {
	situation := "no node holds it"
	switch status, node := s.Owner(name); status {
	case StatusHeld:
		situation = node + " holds it"
	case StatusForeign:
		situation = "another program holds its lock"
	case StatusUnknown:
		situation = "its lock cannot be read"
	}
	if remarks := s.Remarks(name); len(remarks) > 0 {
		situation += " (" + strings.Join(remarks, "; ") + ")"
	}
	return situation
}

// Remarks tell people what the owner of a lock alone does not: how a lock became
// free, why no member takes it, and what operators have asked for.
func (s *State) Remarks(name string) []string {
	remarks := []string{s.failing(name), s.history(name), s.taken(name), s.PinText(name), s.absence(name)}
	if _, owner := s.Owner(name); owner != "" && s.Drained(owner) {
		remarks = append(remarks, owner+" is drained")
	}
	remarks = append(remarks, s.unfit(name)...)
	if len(s.Contenders(name)) > 0 { // else its absence is explained already
		remarks = append(remarks, s.ineligible(name)...)
	}
	if r, ok := s.Requests[name]; ok {
		remarks = append(remarks, "release requested from "+r.Node)
	}
	if s.Filtered {
		remarks = append(remarks, ErrIncomplete.Error())
	}
	return slices.DeleteFunc(remarks, func(r string) bool { return r == "" })
}

// history tells how a lock came to its present state.
func (s *State) history(name string) string {
	r := s.Locks[name].Record
	switch status, _ := s.Owner(name); {
	case status == StatusHeld && r.State == RecordHandover:
		return fmt.Sprintf("transfer from %s in progress", r.From)
	case status == StatusHeld && len(r.Before) > 0:
		return "takeover in progress"
	case status != StatusFree || r.State == RecordUnknown:
		return ""
	case r.State == RecordContested:
		return fmt.Sprintf("contested by %s since %s", r.Contested.MAC, r.Contested.Since.UTC().Format(time.RFC3339))
	case r.State == RecordReleased:
		return fmt.Sprintf("released by %s: %s", r.Node, r.Reason)
	case r.Reason != "" && (r.TookFrom == "" || r.At != nil):
		return fmt.Sprintf("given up by %s: %s", r.Node, r.Reason)
	}
	return r.Node + " stopped without releasing it"
}

// taken tells from which node the owner of a lock has taken it.
func (s *State) taken(name string) string {
	r := s.Locks[name].Record
	if status, _ := s.Owner(name); status != StatusHeld || r.TookFrom == "" {
		return ""
	}
	return fmt.Sprintf("taken over from %s: host did not answer", r.TookFrom)
}

// PinText tells people the pin of a lock, and why the pinned node cannot take it.
// It is empty where there is no pin.
func (s *State) PinText(name string) string {
	pin := s.Pin(name)
	_, owner := s.Owner(name)
	switch {
	case pin == "":
		return ""
	case pin == Nobody:
		return "pinned to nobody"
	case pin == owner, s.Filtered && !slices.Contains(s.Contenders(name), pin):
		return "pinned to " + pin
	case s.WhyIneligible(name, pin) != "":
		return fmt.Sprintf("pinned to %s, which cannot take it: %s", pin, s.WhyIneligible(name, pin))
	case !slices.Contains(s.Contenders(name), pin):
		return fmt.Sprintf("pinned to %s, which is not a member", pin)
	case s.Drained(pin):
		return fmt.Sprintf("pinned to %s, which is drained", pin)
	}
	return "pinned to " + pin
}

// absence tells why no member takes a free lock, where the pin is not the reason.
func (s *State) absence(name string) string {
	nodes := s.Contenders(name)
	switch status, _ := s.Owner(name); {
	case status != StatusFree || s.Pin(name) != "" || s.Filtered:
		return ""
	case len(nodes) == 0:
		return strings.Join(append([]string{"no members"}, s.ineligible(name)...), ", ")
	case !slices.ContainsFunc(nodes, func(node string) bool { return !s.Drained(node) }):
		return "all members are drained"
	}
	return ""
}
