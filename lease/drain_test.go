package lease

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDrainedHaveNoRankAndNoShare(t *testing.T) {
	all := []string{"h1", "h2", "h3"}
	fresh := members(30, all, nil)
	fresh.drained["h2"] = true
	assert.Equal(t, map[string]int{"h1": 15, "h3": 15}, best(fresh.ranks.free(), nil))
	assert.Equal(t, fresh.ranks.free(), fresh.ranks.ideal())

	held := map[string]string{}
	for name, cs := range members(30, all, nil).ranks.free() {
		held[name] = cs[0].node
	}
	v := members(30, all, held)
	v.drained["h2"] = true
	moves := map[string]int{}
	for name, node := range held {
		to, ok := v.successor(name, node)
		require.True(t, ok)
		require.NotEqual(t, "h2", to.node)
		if node == "h2" {
			moves[to.node]++
		}
	}
	assert.Equal(t, map[string]int{"h1": 5, "h3": 5}, moves, "what h2 gives away")

	v.drained["h1"], v.drained["h3"] = true, true
	assert.Empty(t, v.ranks.free())
}
