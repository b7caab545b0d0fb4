package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJudgeExit(t *testing.T) {
	stopped := deed{signalled: noon}
	for name, test := range map[string]struct {
		code   int
		deed   deed
		took   time.Duration
		output string
		want   string // "": nothing is wrong
	}{
		"stopped":               {exitOK, stopped, time.Second, "", ""},
		"stopped late":          {exitOK, stopped, stopLimit + time.Second, "", "it took 8s to stop"},
		"stopped while frozen":  {exitOK, deed{signalled: noon, thawed: at(9 * time.Second)}, 10 * time.Second, "", ""},
		"killed while stopping": {exitKilled, deed{signalled: noon, killed: true}, time.Minute, "", ""},
		"out of the blue":       {exitOK, deed{}, 0, "", "nobody told it to stop"},
		"lost":                  {exitLost, deed{}, 0, "", ""},
		"lost, then stopped":    {exitLost, stopped, time.Second, "", ""},
		"stranger":              {exitConflict, deed{}, 0, "conflict mac=" + stranger.String(), ""},
		"each other":            {exitConflict, deed{}, 0, "conflict mac=02:00:00:00:00:02", "with no stranger"},
		"killed":                {exitKilled, deed{killed: true}, 0, "", ""},
		"killed by nobody":      {exitKilled, deed{}, 0, "", "a signal ended it"},
		"failure":               {exitFailure, deed{}, 0, "", "no end that is foreseen"},
		"undocumented":          {66, stopped, 0, "", "no end that is foreseen"},
		"panic":                 {exitOK, stopped, 0, "panic: oh", `its output has "panic:"`},
		"race":                  {exitLost, deed{}, 0, "WARNING: DATA RACE", "DATA RACE"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := judgeExit(test.code, test.deed, at(test.took), test.output)
			if test.want == "" {
				require.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			require.Contains(t, problems[0], test.want)
		})
	}
}

func TestLatch(t *testing.T) {
	var log []string
	l := &latch{
		do:   func() error { log = append(log, "do"); return nil },
		undo: func() error { log = append(log, "undo"); return errors.New("undone") },
	}
	require.NoError(t, l.hold())
	require.NoError(t, l.hold())
	require.True(t, l.held())
	require.NoError(t, l.release())
	require.Equal(t, []string{"do"}, log)
	require.EqualError(t, l.release(), "undone")
	require.False(t, l.held())
	require.Error(t, during(func() { log = append(log, "meanwhile") }, l))
	require.Equal(t, []string{"do", "undo", "do", "meanwhile", "undo"}, log)
}
