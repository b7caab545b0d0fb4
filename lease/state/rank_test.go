package state

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// contended builds a State in which nodes contend for n locks, of which held says
// which node holds them.
func contended(n int, nodes []string, held map[string]string, drained ...string) *State {
	var pairs api.KVPairs
	vips := map[string]int{}
	for i := range n {
		name := fmt.Sprintf("10.77.0.%d", 100+i)
		vips[name] = 100
		if node, ok := held[name]; ok {
			pairs = append(pairs, &api.KVPair{Key: "p/" + name + "/.lock", Session: "s-" + node})
		}
	}
	for _, node := range nodes {
		pairs = append(pairs, &api.KVPair{Key: "p/.members/" + node, Value: Member{Node: node, VIPs: vips}.Encode(), Session: "s-" + node})
	}
	for _, node := range drained {
		pairs = append(pairs, &api.KVPair{Key: "p/.drain/" + node})
	}
	return New(NewKeys("p"), pairs, 1)
}

// best counts the names that each node is the best candidate for; a lock that is
// held stays with its holder.
func best(r ranking, held map[string]string) map[string]int {
	counts := map[string]int{}
	for name, candidates := range r {
		if node, ok := held[name]; ok {
			counts[node]++
		} else {
			counts[candidates[0].Node]++
		}
	}
	return counts
}

// assigned gives every lock to its best candidate.
func assigned(s *State) map[string]string {
	held := map[string]string{}
	for name, candidates := range s.rankings.free() {
		held[name] = candidates[0].Node
	}
	return held
}

// successorsOf counts the successors of the locks that node holds.
func successorsOf(t *testing.T, s *State, held map[string]string, node string) map[string]int {
	t.Helper()
	moves := map[string]int{}
	for name, holder := range held {
		to, ok := s.Successor(name, holder)
		require.True(t, ok)
		require.NotEqual(t, holder, to.Node)
		if holder == node {
			moves[to.Node]++
		}
	}
	return moves
}

var threeNodes = []string{"h1", "h2", "h3"}

func TestLocksSpreadEvenly(t *testing.T) {
	fresh := contended(30, threeNodes, nil)
	assert.Equal(t, map[string]int{"h1": 10, "h2": 10, "h3": 10}, best(fresh.rankings.free(), nil))
	assert.Equal(t, fresh.rankings.free(), fresh.rankings.ideal())

	held := assigned(fresh)
	stopping := contended(30, threeNodes, held)
	assert.Equal(t, map[string]int{"h1": 5, "h3": 5}, successorsOf(t, stopping, held, "h2"), "the locks that h2 transfers")

	for name, node := range held {
		if node == "h2" {
			delete(held, name)
		}
	}
	dead := contended(30, []string{"h1", "h3"}, held)
	assert.Equal(t, map[string]int{"h1": 15, "h3": 15}, best(dead.rankings.free(), held))
}

func TestDrainedNodesHaveNoPositionAndNoShare(t *testing.T) {
	fresh := contended(30, threeNodes, nil, "h2")
	assert.Equal(t, map[string]int{"h1": 15, "h3": 15}, best(fresh.rankings.free(), nil))
	assert.Equal(t, fresh.rankings.free(), fresh.rankings.ideal())

	held := assigned(contended(30, threeNodes, nil))
	draining := contended(30, threeNodes, held, "h2")
	moves := map[string]int{}
	for name, node := range held {
		to, ok := draining.Successor(name, node)
		require.True(t, ok)
		require.NotEqual(t, "h2", to.Node)
		if node == "h2" {
			moves[to.Node]++
		}
	}
	assert.Equal(t, map[string]int{"h1": 5, "h3": 5}, moves, "the locks that h2 transfers")

	assert.Empty(t, contended(30, threeNodes, held, threeNodes...).rankings.free())
}

func TestPriorityComesBeforeSpread(t *testing.T) {
	s := New(NewKeys("p"), api.KVPairs{
		{Key: "p/.members/h1", Session: "s-h1", Value: Member{VIPs: map[string]int{"a": 100, "b": 100}}.Encode()},
		{Key: "p/.members/h2", Session: "s-h2", Value: Member{VIPs: map[string]int{"a": 200, "b": 200}}.Encode()},
	}, 1)
	assert.Equal(t, map[string]int{"h1": 2}, best(s.rankings.free(), nil))
	assert.Equal(t, 1, s.Position("a", "h2"))
	assert.Equal(t, 0, s.Position("a", "h9"), "not a member yet")
}

// A survivor is the best of those whose sessions are not known to be dead.
func TestSurvivor(t *testing.T) {
	dead := func(sessions ...string) func(string) bool {
		return func(s string) bool { return slices.Contains(sessions, s) }
	}
	held := map[string]string{"10.77.0.100": "h1"}
	s := contended(1, threeNodes, held)
	first, ok := s.Successor("10.77.0.100", "h1")
	require.True(t, ok)
	to, ok := s.Survivor("10.77.0.100", "h1", dead("s-h1"))
	require.True(t, ok)
	assert.Equal(t, first, to)
	to, ok = s.Survivor("10.77.0.100", "h1", dead("s-h1", first.Session))
	require.True(t, ok)
	assert.NotEqual(t, first, to)
	_, ok = s.Survivor("10.77.0.100", "h1", dead("s-h2", "s-h3"))
	assert.False(t, ok)
	drained := contended(1, threeNodes, held, "h2", "h3")
	_, ok = drained.Survivor("10.77.0.100", "h1", dead())
	assert.False(t, ok)
}

func TestBestPlacedIgnoresThePin(t *testing.T) {
	s := New(NewKeys("p"), api.KVPairs{
		{Key: "p/a/pin", Value: []byte("h2")},
		{Key: "p/.members/h1", Session: "s-h1", Value: Member{VIPs: map[string]int{"a": 100}}.Encode()},
		{Key: "p/.members/h2", Session: "s-h2", Value: Member{VIPs: map[string]int{"a": 200}}.Encode()},
	}, 1)
	for _, test := range []struct{ without, best, successor string }{
		{"", "h1", "h2"},
		{"h1", "h2", "h2"},
		{"h2", "h1", ""},
	} {
		to, _ := s.BestPlaced("a", test.without)
		assert.Equal(t, test.best, to.Node, "best placed without %q", test.without)
		to, ok := s.Successor("a", test.without)
		assert.Equal(t, test.successor, to.Node, "successor without %q", test.without)
		assert.Equal(t, test.successor != "", ok)
	}
	_, ok := s.BestPlaced("b", "")
	assert.False(t, ok, "no member contends for it")
}

// The place in line counts those that would get the lock before: not its owner, and with
// a pin nobody but that node.
func TestInLine(t *testing.T) {
	const name = "10.77.0.100"
	s := contended(1, threeNodes, map[string]string{name: "h1"})
	first, _ := s.Successor(name, "h1")
	places := map[string]int{}
	for _, session := range []string{"s-h1", "s-h2", "s-h3"} {
		if position, ok := s.InLine(name, "h1", session); ok {
			places[session] = position
		}
	}
	assert.Len(t, places, 2)
	assert.Equal(t, 0, places[first.Session])
	assert.NotContains(t, places, "s-h1")

	second := map[string]string{"s-h2": "h3", "s-h3": "h2"}[first.Session]
	s.Pins[name] = Pin{Node: second}
	position, ok := s.InLine(name, "h1", "s-"+second)
	assert.True(t, ok)
	assert.Zero(t, position)
	_, ok = s.InLine(name, "h1", first.Session)
	assert.False(t, ok, "pinned elsewhere")
}

// A member whose host did not answer gets nothing until it has written its key again.
func TestUnheardMemberIsNoCandidate(t *testing.T) {
	const name = "10.77.0.100"
	vips := map[string]int{name: 100, "10.77.0.101": 100}
	took := Record{State: RecordHeld, Node: "h2", Session: "s-h2", TookFrom: "h1", Unheard: &Unheard{"h1", 7}, Reason: ReasonHostDead}
	view := func(member uint64) *State {
		return New(NewKeys("p"), api.KVPairs{
			{Key: "p/" + name + "/.lock", Value: took.Encode(), Session: "s-h2", ModifyIndex: 9},
			{Key: "p/.members/h1", Value: Member{Node: "h1", VIPs: vips}.Encode(), Session: "s-h1", ModifyIndex: member},
			{Key: "p/.members/h2", Value: Member{Node: "h2", VIPs: vips}.Encode(), Session: "s-h2", ModifyIndex: 5},
		}, 10)
	}
	_, ok := view(7).Successor(name, "h2")
	assert.False(t, ok)
	best, _ := view(7).Successor("10.77.0.101", "")
	assert.Equal(t, "h2", best.Node, "of no other lock either")
	_, ok = view(7).BestPlaced(name, "h2")
	assert.False(t, ok)

	to, _ := view(11).Successor(name, "h2")
	assert.Equal(t, "h1", to.Node)
}
