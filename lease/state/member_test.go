package state

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Older instances read and write the first of these.
func TestMemberAsJSON(t *testing.T) {
	for name, test := range map[string]struct {
		member Member
		json   string
	}{
		"older": {
			Member{Node: "h1", Session: "s1", VIPs: map[string]int{"a": 100}, Version: "v"},
			`{"node":"h1","session":"s1","vips":{"a":100},"version":"v"}`,
		},
		"ineligible": {
			Member{Node: "h1", Session: "s1", VIPs: map[string]int{}, Ineligible: map[string][]string{"no": {"a"}}},
			`{"node":"h1","session":"s1","vips":{},"ineligible":{"no":["a"]}}`,
		},
		"not fit": {
			Member{Node: "h1", Session: "s1", VIPs: map[string]int{"a": 2102}, Unfit: map[string][]string{"no disk": {"a"}}},
			`{"node":"h1","session":"s1","vips":{"a":2102},"unfit":{"no disk":["a"]}}`,
		},
		"failing": {
			Member{Node: "h1", Session: "s1", VIPs: map[string]int{"a": 100}, Failing: map[string][]string{"hook x: status 429": {"a"}}},
			`{"node":"h1","session":"s1","vips":{"a":100},"failing":{"hook x: status 429":["a"]}}`,
		},
		"described": {
			Member{Node: "h1", Session: "s1", VIPs: map[string]int{"a": 100}, Owner: `{"links":[{"interface":"eth0","macs":["02:00:00:00:00:01"]}],"x":1}`},
			`{"node":"h1","session":"s1","vips":{"a":100},"links":[{"interface":"eth0","macs":["02:00:00:00:00:01"]}],"x":1}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.json, string(test.member.Encode()))
			var m Member
			require.NoError(t, json.Unmarshal([]byte(test.json), &m))
			assert.Equal(t, test.member, m)
			assert.True(t, m.Same(test.member))
			other := m
			other.Owner = `{"y":2}`
			assert.False(t, m.Same(other))
			// An older instance reads its own fields and leaves out the rest.
			var older memberHead
			require.NoError(t, json.Unmarshal([]byte(test.json), &older))
			assert.Equal(t, m.VIPs, older.VIPs)
		})
	}
	var m Member
	for _, value := range []string{"", "[]", "7", `{"vips":7}`, `{"node":"h1"`} {
		require.Error(t, json.Unmarshal([]byte(value), &m), value)
	}
}

// A member that is not fit comes after every one that is, also after one that ranks last,
// and for older instances too.
func TestUnfit(t *testing.T) {
	for _, priority := range []int{0, 100, MaxPriority} {
		for _, last := range []bool{false, true} {
			fit := Member{VIPs: map[string]int{"a": MaxPriority}}
			fit.RankLast()
			m := Member{VIPs: map[string]int{"a": priority}, Unfit: map[string][]string{}}
			assert.False(t, m.IsUnfit("a"))
			m.MarkUnfit("a", "no disk")
			if last {
				m.RankLast()
			}
			assert.True(t, m.IsUnfit("a"))
			assert.False(t, fit.IsUnfit("a"))
			assert.Greater(t, m.VIPs["a"], fit.VIPs["a"])
			got, ranksLast := m.Priority("a")
			assert.Equal(t, priority, got)
			assert.Equal(t, last, ranksLast)
			assert.Equal(t, map[string][]string{"no disk": {"a"}}, m.Unfit)
		}
	}
}

// A member that ranks last comes after every other one, for older instances too.
func TestRankLast(t *testing.T) {
	for _, priority := range []int{0, 100, MaxPriority} {
		m := Member{VIPs: map[string]int{"a": priority}}
		got, last := m.Priority("a")
		assert.Equal(t, priority, got)
		assert.False(t, last)
		m.RankLast()
		assert.Greater(t, m.VIPs["a"], MaxPriority)
		got, last = m.Priority("a")
		assert.Equal(t, priority, got)
		assert.True(t, last)
	}
	served := served.with(keys{".members/h2": `{"vips":{"a":1002}}@s2`}).state()
	assert.Equal(t, "members: h1 (owner), h2 (ranks last: its host did not answer)", served.ContendersText("a"))
	to, ok := served.Successor("a", "h1")
	assert.True(t, ok)
	assert.Equal(t, "h2", to.Node, "it is a successor all the same")
}
