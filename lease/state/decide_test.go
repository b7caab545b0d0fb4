package state

import (
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keys is a State as text: the value of each key below "p", with "@session" at its
// end where it has a session.
type keys map[string]string

func (k keys) state() *State {
	var pairs api.KVPairs
	for key, value := range k {
		p := &api.KVPair{Key: "p/" + key, ModifyIndex: 5, Value: []byte(value)}
		if value, session, ok := cutSession(value); ok {
			p.Value, p.Session = []byte(value), session
		}
		pairs = append(pairs, p)
	}
	return New(NewKeys("p"), pairs, 10)
}

func cutSession(s string) (value, session string, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '@' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// with returns the keys with others added.
func (k keys) with(more keys) keys {
	all := keys{}
	for key, value := range k {
		all[key] = value
	}
	for key, value := range more {
		all[key] = value
	}
	return all
}

// served is h1 holding a, and h2 standing by.
var served = keys{
	"a/.lock":     `{"state":"held","node":"h1","session":"s1"}@s1`,
	".members/h1": `{"vips":{"a":100}}@s1`,
	".members/h2": `{"vips":{"a":100}}@s2`,
}

func TestTransfer(t *testing.T) {
	for name, test := range map[string]struct {
		keys    keys
		preempt time.Duration
		reason  error
		to      string
		delay   time.Duration
		request uint64
	}{
		"stays":               {keys: served},
		"released on request": {keys: served.with(keys{"a/release": "h1"}), reason: ErrRequested, to: "h2", request: 5},
		"released on request, without a successor":   {keys: served.with(keys{"a/release": "h1", ".drain/h2": ""}), reason: ErrRequested, request: 5},
		"a request that names another node":          {keys: served.with(keys{"a/release": "h2"})},
		"pinned to another node":                     {keys: served.with(keys{"a/pin": "h2"}), reason: ErrPinned, to: "h2"},
		"pinned to a node that is not there":         {keys: served.with(keys{"a/pin": "h3"})},
		"pinned to a drained node":                   {keys: served.with(keys{"a/pin": "h2", ".drain/h2": ""})},
		"pinned to its owner, which is drained":      {keys: served.with(keys{"a/pin": "h1", ".drain/h1": ""})},
		"drained":                                    {keys: served.with(keys{".drain/h1": ""}), reason: ErrDrained, to: "h2"},
		"all drained":                                {keys: served.with(keys{".drain/h1": "", ".drain/h2": ""})},
		"not fit":                                    {keys: served.with(keys{".members/h1": `{"vips":{"a":2102}}@s1`}), reason: ErrUnfit, to: "h2"},
		"not fit, and neither is anybody else":       {keys: served.with(keys{".members/h1": `{"vips":{"a":2102}}@s1`, ".members/h2": `{"vips":{"a":2102}}@s2`})},
		"not fit, and the other one is drained":      {keys: served.with(keys{".members/h1": `{"vips":{"a":2102}}@s1`, ".drain/h2": ""})},
		"not fit, but pinned":                        {keys: served.with(keys{".members/h1": `{"vips":{"a":2102}}@s1`, "a/pin": "h1"})},
		"not fit, and the other one ranks last":      {keys: served.with(keys{".members/h1": `{"vips":{"a":2102}}@s1`, ".members/h2": `{"vips":{"a":1101}}@s2`}), reason: ErrUnfit, to: "h2"},
		"a better placed member that is not fit":     {keys: served.with(keys{".members/h2": `{"vips":{"a":2052}}@s2`}), preempt: time.Minute},
		"a better placed member, without preemption": {keys: served.with(keys{".members/h2": `{"vips":{"a":50}}@s2`})},
		"a better placed member": {
			keys: served.with(keys{".members/h2": `{"vips":{"a":50}}@s2`}), preempt: time.Minute,
			reason: ErrPreempted, to: "h2", delay: time.Minute,
		},
		"a better placed member, but pinned": {keys: served.with(keys{".members/h2": `{"vips":{"a":50}}@s2`, "a/pin": "h1"}), preempt: time.Minute},
		"a worse placed member":              {keys: served.with(keys{".members/h2": `{"vips":{"a":150}}@s2`}), preempt: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.keys.state().Transfer("a", "h1", test.preempt)
			require.Equal(t, test.reason, got.Reason)
			assert.Equal(t, test.to, got.To.Node)
			assert.Equal(t, test.delay, got.Delay)
			assert.Equal(t, test.request, got.Request)
		})
	}
}

func TestTransferEqual(t *testing.T) {
	to := Candidate{Node: "h2", Session: "s2"}
	a := Transfer{To: to, Reason: ErrPreempted, Delay: time.Second}
	assert.True(t, a.Equal(Transfer{To: to, Reason: ErrPreempted, Delay: time.Minute}), "the delay may differ")
	assert.False(t, a.Equal(Transfer{To: to, Reason: ErrPinned}))
	assert.False(t, a.Equal(Transfer{To: Candidate{Node: "h2", Session: "s3"}, Reason: ErrPreempted}), "another session is another process")
	assert.False(t, a.Equal(Transfer{To: to, Reason: ErrPreempted, Request: 7}))
}

func TestIneligible(t *testing.T) {
	for name, test := range map[string]struct {
		keys keys
		want string
	}{
		"eligible":               {keys{}, ""},
		"pinned here":            {keys{"a/pin": "h1"}, ""},
		"an empty pin":           {keys{"a/pin": "\n"}, ""},
		"another lock is pinned": {keys{"b/pin": "h2"}, ""},
		"another is drained":     {keys{".drain/h2": ""}, ""},
		"drained":                {keys{".drain/h1": "", "a/pin": "h1"}, "this node is drained"},
		"pinned to nobody":       {keys{"a/pin": "-"}, "pinned to nobody"},
		"pinned elsewhere":       {keys{"a/pin": "h2"}, "pinned to h2"},
	} {
		err := test.keys.state().Ineligible("a", "h1")
		if test.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.EqualError(t, err, test.want, name)
	}
}
