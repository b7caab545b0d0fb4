package lease

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// snapshot is a view as an operator needs it, with the keys that it was made of.
type snapshot struct {
	*view
	prefix string
	keys   map[string]*api.KVPair
}

func newSnapshot(prefix string, pairs api.KVPairs, index uint64) *snapshot {
	s := &snapshot{view: newView(prefix, pairs, index), prefix: prefix, keys: map[string]*api.KVPair{}}
	for _, p := range pairs {
		s.keys[strings.TrimPrefix(p.Key, prefix+"/")] = p
	}
	return s
}

// names lists every address that has a lock or a contender, in order.
func (s *snapshot) names() []string {
	names := map[string]bool{}
	for name := range s.locks {
		names[name] = true
	}
	for _, m := range s.members {
		for name := range m.VIPs {
			names[name] = true
		}
	}
	return slices.SortedFunc(maps.Keys(names), compareNames)
}

// compareNames orders addresses as numbers, and what is none after them.
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

// known objects to an address that nobody has, ever had or contends for.
func (s *snapshot) known(name string) error {
	names := s.names()
	switch {
	case slices.Contains(names, name):
		return nil
	case len(names) == 0:
		return fmt.Errorf("there is no address %s below %s/, nor any other", name, s.prefix)
	}
	return fmt.Errorf("there is no address %s below %s/; there are: %s", name, s.prefix, enumerate(names))
}

// enumerate lists names, and of many only the first.
func enumerate(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// owner says who has an address: the state is StatusHeld with the node,
// StatusForeign or StatusFree.
func (s *snapshot) owner(name string) (state, node string) {
	l := s.locks[name]
	switch l.session {
	case "":
		return StatusFree, ""
	case l.record.Session:
		return StatusHeld, l.record.Node
	}
	return StatusForeign, ""
}

// servedBy is the node that has an address and has said so itself: it is not
// still being handed over to it.
func (s *snapshot) servedBy(name string) string {
	if _, node := s.owner(name); s.locks[name].record.State == StateHeld {
		return node
	}
	return ""
}

// contenders lists the members that hold an address or contend for it, by name.
func (s *snapshot) contenders(name string) []string {
	var nodes []string
	for node, m := range s.members {
		if _, ok := m.VIPs[name]; ok {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// whoIsThere tells the contenders for an address, as a part of a sentence.
func (s *snapshot) whoIsThere(name string) string {
	nodes := s.contenders(name)
	if len(nodes) == 0 {
		return "nobody contends for it"
	}
	_, owner := s.owner(name)
	for i, node := range nodes {
		switch {
		case s.drained[node]:
			nodes[i] += " (drained)"
		case node == owner:
			nodes[i] += " (has it)"
		}
	}
	return "there are: " + enumerate(nodes)
}

// situation tells how things stand with an address, as a part of a sentence.
func (s *snapshot) situation(name string) string {
	what := "nobody has it"
	switch state, node := s.owner(name); state {
	case StatusHeld:
		what = node + " has it"
	case StatusForeign:
		what = "another program has its lock"
	}
	if remarks := s.remarks(name); len(remarks) > 0 {
		what += " (" + strings.Join(remarks, "; ") + ")"
	}
	return what
}

// remarks tell what state and owner of an address do not: how a free one came to
// be free, why nobody takes it, and what operators want.
func (s *snapshot) remarks(name string) []string {
	remarks := []string{s.history(name), s.pinned(name), s.absence(name)}
	if _, owner := s.owner(name); owner != "" && s.drained[owner] {
		remarks = append(remarks, owner+" is drained")
	}
	if r, ok := s.requests[name]; ok {
		remarks = append(remarks, r.node+" is asked to release it")
	}
	return slices.DeleteFunc(remarks, func(r string) bool { return r == "" })
}

// history is how a lock came to where it is.
func (s *snapshot) history(name string) string {
	l := s.locks[name]
	r := l.record
	switch state, _ := s.owner(name); {
	case state == StatusHeld && r.State == StateHandover:
		return "being handed over by " + r.From
	case state != StatusFree || r.State == StateUnknown:
		return ""
	case r.State == StateReleased:
		return fmt.Sprintf("released by %s: %s", r.Node, r.Reason)
	case r.Reason != "":
		return fmt.Sprintf("%s gave it up: %s", r.Node, r.Reason)
	}
	return r.Node + " ended without releasing it"
}

// pinned is what the pin of an address says, and why it may not come true.
func (s *snapshot) pinned(name string) string {
	pin := s.pins[name]
	_, owner := s.owner(name)
	switch {
	case pin == "":
		return ""
	case pin == nobody:
		return "pinned to nobody"
	case pin == owner:
		return "pinned to " + pin
	case !slices.Contains(s.contenders(name), pin):
		return fmt.Sprintf("pinned to %s, which is not there", pin)
	case s.drained[pin]:
		return fmt.Sprintf("pinned to %s, which is drained", pin)
	}
	return "pinned to " + pin
}

// absence is why nobody takes a free address, where it is not the pin.
func (s *snapshot) absence(name string) string {
	nodes := s.contenders(name)
	switch state, _ := s.owner(name); {
	case state != StatusFree || s.pins[name] != "":
		return ""
	case len(nodes) == 0:
		return "nobody is there"
	case !slices.ContainsFunc(nodes, func(node string) bool { return !s.drained[node] }):
		return "whoever is there is drained"
	}
	return ""
}
