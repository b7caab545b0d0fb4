package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/integration/lab"
)

func TestExcuses(t *testing.T) {
	unaware := false
	e := &excuses{unaware: func(string, time.Time) bool { return unaware }}
	e.absences = []*absence{{"h1", at(0), at(time.Second)}, {"h2", at(time.Minute), time.Time{}}}
	double := func(d time.Duration, hosts ...string) lab.Double {
		return lab.Double{Addr: vipOf(0), At: at(d), Hosts: hosts}
	}
	require.False(t, e.excused(double(-1, "h1", "h2")), "before it was away")
	require.True(t, e.excused(double(1200*time.Millisecond, "h3", "h1")))
	require.False(t, e.excused(double(1200*time.Millisecond+1, "h3", "h2")), "no host of these was away")
	late := double(time.Second+hearLimit+1, "h1", "h3")
	require.False(t, e.excused(late), "it had time to hear")
	unaware = true
	require.False(t, e.excused(late), "the first look decides")
	require.True(t, e.excused(double(5*time.Second, "h1", "h3")))
	require.False(t, e.excused(double(time.Second+unawareLimit+1, "h1", "h3")))
	require.True(t, e.excused(double(time.Hour, "h2", "h3")), "it is still away")
	var out strings.Builder
	e.print(&out)
	require.Equal(t, "two owners, taken from while away, killed or frozen: 1 questions, the last 4.00 s after the return\n"+
		"two owners, taken from while away: 2 questions, the last 0.20 s after the return\n", out.String())
}

func TestExcusesDuring(t *testing.T) {
	var e excuses
	require.NoError(t, e.during("h1", func() error {
		require.True(t, e.absences[0].to.IsZero())
		return nil
	}))
	require.False(t, e.absences[0].to.Before(e.absences[0].from))
}
