package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTally feeds runs to a check with rise 3 and fall 2: + succeeds, - fails. Below each
// run is whether the check is fit after it.
func TestTally(t *testing.T) {
	for _, tc := range []struct{ runs, fit string }{
		{"+++", "..f"},
		{"++-+++", ".....f"},
		{"---+++", ".....f"},
		{"+++-+-+-", "..ffffff"},
		{"+++--", "..ff."},
		{"+++--+++", "..ff...f"},
		{"+++--+-+++", "..ff.....f"},
	} {
		tally, now := &tally{rise: 3, fall: 2}, time.Now()
		for i, run := range tc.runs {
			tally.add(run == '+', now)
			require.Equal(t, tc.fit[i] == 'f', tally.fit, "%s after run %d", tc.runs, i+1)
			require.Equal(t, i >= 2, tally.known())
			now = now.Add(time.Second)
		}
	}
}

func TestFlapping(t *testing.T) {
	tally, now := &tally{rise: 1, fall: 1}, time.Now()
	run := func(ok bool, after time.Duration) {
		now = now.Add(after)
		tally.add(ok, now)
	}
	for i := range mostChanges {
		run(i%2 == 0, time.Second)
		require.False(t, tally.flapping)
	}
	run(true, time.Second)
	require.True(t, tally.flapping, "one change more")
	for range 59 {
		run(true, time.Second)
		require.True(t, tally.flapping)
	}
	run(true, time.Second)
	require.False(t, tally.flapping, "a minute without any change")
	require.True(t, tally.fit)

	for i := range 100 { // six changes a minute are allowed
		run(i%2 != 0, 10*time.Second)
		require.False(t, tally.flapping)
	}
}
