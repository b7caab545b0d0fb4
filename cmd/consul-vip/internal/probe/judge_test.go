package probe

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/announcer"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/agent"
	leasestate "github.com/consul-vip/consul-vip/lease/state"
)

var (
	addr     = netip.MustParseAddr("10.77.0.100")
	h1MAC    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	h1Second = net.HardwareAddr{2, 0, 0, 0, 1, 1}
	h2MAC    = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	otherMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	hereMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 3}
)

// keys are those of the members h1, h2 and h3, which is this host. The lock has a session
// if it has an owner, and is one of another program if that is "consul lock".
func keys(t *testing.T, owner string) *leasestate.State {
	t.Helper()
	k := leasestate.NewKeys("p")
	var pairs api.KVPairs
	for node, macs := range map[string][]string{
		"h1": {h1MAC.String(), h1Second.String()}, "h2": {h2MAC.String()}, "h3": {hereMAC.String()},
	} {
		d, err := leasestate.NewOwner(agent.Description{Links: []agent.DescribedLink{{Interface: "eth0", MACs: macs}}})
		require.NoError(t, err)
		m := leasestate.Member{Node: node, Session: node, VIPs: map[string]int{addr.String(): 100}, Owner: d}
		pairs = append(pairs, &api.KVPair{Key: k.Member(node), Value: m.Encode(), Session: node})
	}
	lock := &api.KVPair{Key: k.Lock(addr.String()), Session: owner}
	switch owner {
	case "", "consul lock":
	default:
		mac := map[string]net.HardwareAddr{"h1": h1MAC, "h2": h2MAC, "h3": hereMAC}[owner]
		o, err := leasestate.NewOwner(agent.Owner{Interface: "eth0", MAC: mac.String()})
		require.NoError(t, err)
		lock.Value = leasestate.Record{State: leasestate.RecordHeld, Node: owner, Session: owner, Owner: o}.Encode()
	}
	return leasestate.New(k, append(pairs, lock), 7)
}

// answers are those of stations.
func answers(macs ...net.HardwareAddr) (all []announcer.Answer) {
	for _, mac := range macs {
		all = append(all, announcer.Answer{MAC: mac, Direct: true})
	}
	return all
}

func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		owner    string
		answers  []announcer.Answer
		here     bool
		neighbor net.HardwareAddr
		err      error
		want     []Problem
	}{
		"the owner answers":                {owner: "h1", answers: answers(h1MAC)},
		"from another of its MACs":         {owner: "h1", answers: answers(h1Second)},
		"from both":                        {owner: "h1", answers: answers(h1MAC, h1Second)},
		"this host is the owner":           {owner: "h3", here: true},
		"two members":                      {owner: "h1", answers: answers(h1MAC, h2MAC), want: []Problem{TwoOwners, OtherOwner}},
		"the owner and a stranger":         {owner: "h1", answers: answers(h1MAC, otherMAC), want: []Problem{TwoOwners, OtherOwner}},
		"the owner and this host":          {owner: "h1", answers: answers(h1MAC), here: true, want: []Problem{TwoOwners, BoundHere}},
		"another member":                   {owner: "h1", answers: answers(h2MAC), want: []Problem{OtherOwner}},
		"a stranger":                       {owner: "h1", answers: answers(otherMAC), want: []Problem{OtherOwner}},
		"this host instead of the owner":   {owner: "h1", here: true, want: []Problem{BoundHere}},
		"nobody":                           {owner: "h1", want: []Problem{Silence}},
		"nobody, and no lock":              {want: []Problem{NoOwner}},
		"a member without a lock":          {answers: answers(h2MAC), want: []Problem{WithoutLock}},
		"this host without a lock":         {here: true, want: []Problem{BoundHere}},
		"another program and a station":    {owner: "consul lock", answers: answers(otherMAC)},
		"another program and nobody":       {owner: "consul lock", want: []Problem{Silence}},
		"another program and this host":    {owner: "consul lock", here: true, want: []Problem{BoundHere}},
		"right neighbor entry":             {owner: "h1", answers: answers(h1MAC), neighbor: h1MAC},
		"entry of its other MAC":           {owner: "h1", answers: answers(h1MAC), neighbor: h1Second},
		"wrong neighbor entry":             {owner: "h1", answers: answers(h1MAC), neighbor: h2MAC, want: []Problem{WrongNeighbor}},
		"neighbor entry of a silent owner": {owner: "h1", neighbor: h1MAC, want: []Problem{Silence}},
		"not asked":                        {owner: "h1", err: errors.New("no interface"), want: []Problem{NotAsked}},
	} {
		t.Run(name, func(t *testing.T) {
			f := Found{Target: Target{Addr: addr}, Answers: test.answers, Here: test.here, MAC: hereMAC, Neighbor: test.neighbor, Err: test.err}
			r := Judge(f, keys(t, test.owner))
			require.Equal(t, test.want, r.Problems)
			require.Equal(t, len(test.want) > 0 && test.want[0] == TwoOwners, r.Several())
		})
	}
}

func TestJudgeNamesTheMembers(t *testing.T) {
	r := Judge(Found{Target: Target{Addr: addr}, Answers: answers(h1Second, otherMAC), Here: true, MAC: hereMAC}, keys(t, "h1"))
	var nodes []string
	for _, s := range r.Stations {
		nodes = append(nodes, s.Node)
	}
	require.Equal(t, []string{"h3", "h1", ""}, nodes)
	require.Equal(t, "h1", r.Node)
}

// TestAlone judges without Consul: every MAC counts for itself.
func TestAlone(t *testing.T) {
	for name, test := range map[string]struct {
		found Found
		want  []Problem
	}{
		"one":               {Found{Answers: answers(h1MAC)}, nil},
		"this host":         {Found{Here: true}, nil},
		"nobody":            {Found{}, []Problem{Silence}},
		"two":               {Found{Answers: answers(h1MAC, h1Second)}, []Problem{TwoOwners}},
		"one and this host": {Found{Answers: answers(h1MAC), Here: true}, []Problem{TwoOwners}},
		"not asked":         {Found{Err: errors.New("no interface")}, []Problem{NotAsked}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, Alone(test.found).Problems) })
	}
}
