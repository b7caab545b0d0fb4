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
		values        []int
		median, worst time.Duration
	}{
		"one":       {[]int{7}, 7 * time.Millisecond, 7 * time.Millisecond},
		"odd":       {[]int{9, 1, 2}, 2 * time.Millisecond, 9 * time.Millisecond},
		"even":      {[]int{4, 1, 9, 3}, 3500 * time.Microsecond, 9 * time.Millisecond},
		"all equal": {[]int{5, 5, 5, 5, 5}, 5 * time.Millisecond, 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, spread{tt.median, tt.worst}, spreadOf(gaps(tt.values...), gapOf))
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
}
