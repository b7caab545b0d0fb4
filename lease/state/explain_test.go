package state

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExplain(t *testing.T) {
	free := served.with(keys{"a/.lock": `{"state":"held","node":"h1","session":"s0"}`})
	for name, test := range map[string]struct {
		keys      keys
		status    string
		owner     string
		servedBy  string
		situation string
	}{
		"served": {served, StatusHeld, "h1", "h1", "h1 holds it"},
		"in transfer": {
			served.with(keys{"a/.lock": `{"state":"handover","from":"h1","node":"h2","session":"s2"}@s2`}),
			StatusHeld, "h2", "", "h2 holds it (transfer from h1 in progress)",
		},
		"another program": {served.with(keys{"a/.lock": "@s9"}), StatusForeign, "", "", "another program holds its lock"},
		"never held":      {keys{".members/h1": `{"vips":{"a":1}}@s1`}, StatusFree, "", "", "no node holds it"},
		"released": {
			served.with(keys{"a/.lock": `{"state":"released","node":"h1","reason":"stopped"}`}),
			StatusFree, "", "", "no node holds it (released by h1: stopped)",
		},
		"given up": {
			served.with(keys{"a/.lock": `{"state":"held","node":"h1","reason":"address conflict"}`}),
			StatusFree, "", "", "no node holds it (given up by h1: address conflict)",
		},
		"crashed": {free, StatusFree, "", "", "no node holds it (h1 stopped without releasing it)"},
		"no members": {
			keys{"a/.lock": ""}, StatusFree, "", "", "no node holds it (no members)",
		},
		"all drained": {
			free.with(keys{".drain/h1": "", ".drain/h2": ""}), StatusFree, "", "",
			"no node holds it (h1 stopped without releasing it; all members are drained)",
		},
		"one drained": {free.with(keys{".drain/h1": ""}), StatusFree, "", "", "no node holds it (h1 stopped without releasing it)"},
		"owner drained": {
			served.with(keys{".drain/h1": ""}), StatusHeld, "h1", "h1", "h1 holds it (h1 is drained)",
		},
		"pinned to an ineligible member": {
			served.with(keys{".members/h2": `{"vips":{},"ineligible":{"the link is down":["a"]}}@s2`, "a/pin": "h2"}),
			StatusHeld, "h1", "h1", "h1 holds it (pinned to h2, which cannot take it: the link is down)",
		},
		"an ineligible member": {
			served.with(keys{".members/h2": `{"vips":{},"ineligible":{"the link is down":["a"]}}@s2`}),
			StatusHeld, "h1", "h1", "h1 holds it (h2 cannot take it: the link is down)",
		},
		"failing where it is held": {
			served.with(keys{".members/h1": `{"vips":{"a":1},"failing":{"hook x: exit status 1":["a"]}}@s1`}),
			StatusHeld, "h1", "h1", "h1 holds it (failing on h1: hook x: exit status 1)",
		},
		"no eligible member": {
			keys{".members/h2": `{"vips":{},"ineligible":{"the link is down":["a"]}}@s2`}, StatusFree, "", "",
			"no node holds it (no members, h2 cannot take it: the link is down)",
		},
		"taken over": {
			served.with(keys{"a/.lock": `{"state":"held","node":"h1","session":"s1","before":[{"node":"h9"}]}@s1`}),
			StatusHeld, "h1", "", "h1 holds it (takeover in progress)",
		},
		"taken, not bound yet": {
			served.with(keys{"a/.lock": `{"state":"held","node":"h1","session":"s1","reason":"host-dead","before":[{"node":"h9"}],"took_from":"h9"}@s1`}),
			StatusHeld, "h1", "", "h1 holds it (takeover in progress; taken over from h9: host did not answer)",
		},
		"taken": {
			served.with(keys{"a/.lock": `{"state":"held","node":"h1","session":"s1","reason":"host-dead","took_from":"h9"}@s1`}),
			StatusHeld, "h1", "h1", "h1 holds it (taken over from h9: host did not answer)",
		},
		"taken, and crashed": {
			served.with(keys{"a/.lock": `{"state":"held","node":"h1","session":"s1","reason":"host-dead","took_from":"h9"}`}),
			StatusFree, "", "", "no node holds it (h1 stopped without releasing it)",
		},
		"contested": {
			free.with(keys{"a/.lock": `{"state":"contested","node":"h1","contested":{"mac":"02:00:00:00:00:66","by":"h1","tries":3,"since":"2026-11-22T05:11:37Z","at":"2026-11-22T05:12:37Z"}}`}),
			StatusFree, "", "", "no node holds it (contested by 02:00:00:00:00:66 since 2026-11-22T05:11:37Z)",
		},
		"pinned to its owner":  {served.with(keys{"a/pin": "h1"}), StatusHeld, "h1", "h1", "h1 holds it (pinned to h1)"},
		"pinned to a standby":  {served.with(keys{"a/pin": "h2"}), StatusHeld, "h1", "h1", "h1 holds it (pinned to h2)"},
		"pinned to a stranger": {served.with(keys{"a/pin": "h9"}), StatusHeld, "h1", "h1", "h1 holds it (pinned to h9, which is not a member)"},
		"pinned to a drained node": {
			served.with(keys{"a/pin": "h2", ".drain/h2": ""}), StatusHeld, "h1", "h1", "h1 holds it (pinned to h2, which is drained)",
		},
		"pinned to nobody": {free.with(keys{"a/pin": "-"}), StatusFree, "", "", "no node holds it (h1 stopped without releasing it; pinned to nobody)"},
		"release requested": {
			served.with(keys{"a/release": "h1"}), StatusHeld, "h1", "h1", "h1 holds it (release requested from h1)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := test.keys.state()
			status, owner := s.Owner("a")
			assert.Equal(t, test.status, status)
			assert.Equal(t, test.owner, owner)
			assert.Equal(t, test.servedBy, s.ServedBy("a"))
			assert.Equal(t, test.situation, s.Situation("a"))
		})
	}
}

// Nothing follows from a key that is missing from a list that ACLs filtered.
func TestExplainFiltered(t *testing.T) {
	const incomplete = "the list is incomplete: the ACL token may not read all keys"
	for name, test := range map[string]struct {
		keys      keys
		status    string
		situation string
	}{
		"served":               {served, StatusHeld, "h1 holds it (" + incomplete + ")"},
		"no lock":              {keys{".members/h1": `{"vips":{"a":1}}@s1`}, StatusUnknown, "its lock cannot be read (" + incomplete + ")"},
		"no members":           {keys{"a/.lock": ""}, StatusFree, "no node holds it (" + incomplete + ")"},
		"pinned to a stranger": {served.with(keys{"a/pin": "h9"}), StatusHeld, "h1 holds it (pinned to h9; " + incomplete + ")"},
	} {
		t.Run(name, func(t *testing.T) {
			s := test.keys.state()
			s.Filtered = true
			status, _ := s.Owner("a")
			assert.Equal(t, test.status, status)
			assert.Equal(t, test.status != StatusUnknown, s.LockKnown("a"))
			assert.Equal(t, test.situation, s.Situation("a"))
			assert.ErrorIs(t, s.CheckName("b"), ErrIncomplete)
			assert.NoError(t, s.CheckName("a"))
			assert.Equal(t, "no node is known to contend for it, "+incomplete, s.ContendersText("b"))
		})
	}
	assert.True(t, served.state().LockKnown("b"), "a lock that there is not")
}

func TestContendersText(t *testing.T) {
	assert.Equal(t, "members: h1 (owner), h2", served.state().ContendersText("a"))
	assert.Equal(t, "members: h1 (drained), h2", served.with(keys{".drain/h1": ""}).state().ContendersText("a"))
	assert.Equal(t, "no node contends for it", served.state().ContendersText("b"))
}

func TestNamesAreOrderedAsAddresses(t *testing.T) {
	s := keys{
		"10.0.0.10/.lock": "", "10.0.0.9/.lock": "", "fd77::1/.lock": "", "web/.lock": "", "api/.lock": "",
		".members/h1": `{"vips":{"10.0.0.9":1,"9.0.0.1":1}}@s1`, "10.0.0.1/pin": "h1",
	}.state()
	assert.Equal(t, []string{"9.0.0.1", "10.0.0.9", "10.0.0.10", "fd77::1", "api", "web"}, s.Names())
}

func TestCheckName(t *testing.T) {
	require.NoError(t, served.state().CheckName("a"))
	require.EqualError(t, served.state().CheckName("b"), "no address b below p/; known addresses: a")
	require.EqualError(t, keys{}.state().CheckName("b"), "no address b below p/, and no other address either")

	many := keys{}
	for _, c := range "abcdefghijklmnopqrstuvw" {
		many[string(c)+"/.lock"] = ""
	}
	err := many.state().CheckName("z")
	require.Error(t, err)
	assert.True(t, strings.HasSuffix(err.Error(), "s, t and 3 more"), err)
}
