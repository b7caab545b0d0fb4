package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

// gaps makes one result for every gap, given in milliseconds.
func gaps(values ...int) []result {
	var cell []result
	for _, v := range values {
		cell = append(cell, result{gap: time.Duration(v) * time.Millisecond, next: "h2"})
	}
	return cell
}

func TestSpread(t *testing.T) {
	for name, tt := range map[string]struct {
		values []int
		want   spread
	}{
		"one":       {[]int{7}, spread{7 * time.Millisecond, 7 * time.Millisecond, 7 * time.Millisecond}},
		"odd":       {[]int{9, 1, 2}, spread{2 * time.Millisecond, 9 * time.Millisecond, 9 * time.Millisecond}},
		"even":      {[]int{4, 1, 9, 3}, spread{3500 * time.Microsecond, 9 * time.Millisecond, 9 * time.Millisecond}},
		"all equal": {[]int{5, 5, 5, 5, 5}, spread{5 * time.Millisecond, 5 * time.Millisecond, 5 * time.Millisecond}},
		"ten":       {[]int{10, 1, 2, 3, 4, 5, 6, 7, 8, 9}, spread{5500 * time.Microsecond, 9 * time.Millisecond, 10 * time.Millisecond}},
		"eleven":    {[]int{11, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9}, spread{6 * time.Millisecond, 10 * time.Millisecond, 11 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, spreadOf(gaps(tt.values...), gapOf))
		})
	}
}

func TestSpreadLeavesTheOrderOfTheResults(t *testing.T) {
	cell := gaps(3, 1, 2)
	spreadOf(cell, gapOf)
	require.Equal(t, gaps(3, 1, 2), cell)
}

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                        "0",
		340 * time.Microsecond:   "0.34",
		2100 * time.Microsecond:  "2.1",
		46400 * time.Microsecond: "46",
		5217 * time.Millisecond:  "5217",
	} {
		require.Equal(t, want, ms(d))
	}
}

func TestLongestAfter(t *testing.T) {
	failure := time.Unix(1000, 0)
	gap := func(from, to time.Duration) lab.Gap {
		return lab.Gap{From: failure.Add(from), To: failure.Add(to), Lost: 1}
	}
	before := gap(-9*time.Second, -time.Second)
	around := gap(-time.Millisecond, 3*time.Millisecond)
	later := gap(time.Second, time.Second+2*time.Millisecond)

	require.Zero(t, longestAfter(nil, failure))
	require.Zero(t, longestAfter([]lab.Gap{before}, failure))
	require.Equal(t, around, longestAfter([]lab.Gap{before, around, later}, failure))
	require.Equal(t, later, longestAfter([]lab.Gap{before, later}, failure))
}

func TestDoublesAfter(t *testing.T) {
	failure := time.Unix(1000, 0)
	doubles := []lab.Double{{At: failure.Add(-time.Second)}, {At: failure}, {At: failure.Add(time.Second)}}
	require.Equal(t, 2, doublesAfter(doubles, failure))
}

func TestFailed(t *testing.T) {
	broken := result{err: errors.New("broken")}
	rs := results{
		{"a", "x"}: append(gaps(1), broken),
		{"b", "x"}: {broken, broken},
		{"c", "x"}: gaps(1, 2),
	}
	require.Equal(t, 3, rs.failed())
	require.Equal(t, gaps(1), measured(rs[key{"a", "x"}]))
	require.Len(t, rs[key{"a", "x"}], 2)
}

func TestAdopt(t *testing.T) {
	rs := results{{"consul-vip", "x"}: gaps(1)}
	rs.adopt(results{
		{"consul-vip", "x"}:      gaps(2),
		{"consul lock", "x"}:     gaps(3),
		{"keepalived 10ms", "x"}: append(gaps(4), result{err: errors.New("broken")}),
	})
	require.Equal(t, results{{"consul-vip", "x"}: gaps(1), {"keepalived 10ms", "x"}: gaps(4)}, rs)
}

func TestResultInOneLine(t *testing.T) {
	r := result{
		owner: "h1", next: "h2", takenOver: 7 * time.Millisecond, gap: 680 * time.Microsecond, lost: 1,
		handover: handover{5 * time.Millisecond, 6 * time.Millisecond, 4 * time.Millisecond, 7 * time.Millisecond},
	}
	require.Equal(t, "from h1 to h2 after 7.0 ms; longest gap 0.68 ms (1 lost), two owners 0 ms; "+
		"transferred 5.0, released 6.0, successor acquired 4.0, active 7.0 ms", r.String())
	r = result{owner: "h1", gap: 40 * time.Second, lost: 40000, open: true, left: true, reaction: 540 * time.Microsecond}
	require.Equal(t, "stays on h1; longest gap 40000 ms (40000 lost), two owners 0 ms; no answer at the end; "+
		"the address is still on h1; unbound after 0.54 ms", r.String())
	require.Equal(t, "FAILED: broken", result{err: errors.New("broken")}.String())
	r = result{owner: "h1", next: "h3", takenOver: time.Second, gap: time.Second,
		phases: phases{"prove": 4 * time.Millisecond, "detect": 200 * time.Millisecond}, web: webLoad{Requests: 9, Errors: 1, Slowest: 3500}}
	require.Equal(t, "from h1 to h3 after 1000 ms; longest gap 1000 ms (0 lost), two owners 0 ms; detect 200, prove 4.0 ms; "+
		"9 requests, 1 errors, slowest 3.5 ms", r.String())
}

// TestAddSeveralAddresses has the longest gap and the latest takeover of all addresses
// count.
func TestAddSeveralAddresses(t *testing.T) {
	failure, owner := time.Unix(1000, 0), &lab.Host{Name: "h1"}
	at := func(ms int) time.Time { return failure.Add(time.Duration(ms) * time.Millisecond) }
	seen := func(host string, from, to int) lab.Report {
		return lab.Report{
			Gaps:  []lab.Gap{{From: at(from), To: at(to), Lost: to - from}},
			Owned: []lab.Reign{{Host: "h1", First: at(-9), Last: at(from)}, {Host: host, First: at(to), Last: at(to + 9)}},
		}
	}
	var r result
	r.add(seen("h2", 1, 30), false, owner, failure)
	r.add(seen("h3", 5, 50), false, owner, failure)
	r.add(seen("h2", 30, 60), false, owner, failure)
	require.Equal(t, result{
		gaps: []time.Duration{29 * time.Millisecond, 45 * time.Millisecond, 30 * time.Millisecond},
		gap:  45 * time.Millisecond, lost: 45, next: "h2", takenOver: 60 * time.Millisecond,
	}, r)
	r.add(lab.Report{Gaps: []lab.Gap{{From: at(1), To: at(90), Lost: 89}}}, true, owner, failure)
	require.Empty(t, r.next, "not all were taken over")
	require.True(t, r.open)
	r.add(seen("h3", 5, 50), false, owner, failure)
	require.Empty(t, r.next)
}
