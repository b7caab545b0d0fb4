package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSummary(t *testing.T) {
	var s summary
	stop, pin := Fault{Number: 1, Kind: Stop}, Fault{Number: 2, Kind: Pin}
	long := gap{vipOf(1), noon, at(1500 * time.Millisecond)}
	s.group(Group{Faults: []Fault{stop}}, nil, []gap{{vipOf(0), noon, at(time.Second)}, long})
	s.group(Group{Faults: []Fault{stop, pin}}, map[int]bool{2: true}, []gap{{vipOf(0), noon, at(3 * time.Second)}})
	require.Equal(t, tally{faults: 2, longest: long}, *s.of(string(Stop)))
	require.Equal(t, tally{faults: 1, noTarget: 1}, *s.of(string(Pin)))
	var out strings.Builder
	s.print(&out)
	require.Regexp(t, `stop +2 +0 +1.50 s \(fd77::1:2\)`, out.String())
	require.Regexp(t, `pin +1 +1 +below 50ms`, out.String())
	require.Regexp(t, `two at once +0 +0 +3.00 s`, out.String())
}
