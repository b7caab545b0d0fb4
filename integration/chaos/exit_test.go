package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCheckExit(t *testing.T) {
	stopped := actions{signalled: noon}
	for name, test := range map[string]struct {
		code   int
		done   actions
		took   time.Duration
		output string
		want   string // "": nothing is wrong
	}{
		"stopped":               {exitOK, stopped, time.Second, "", ""},
		"stopped late":          {exitOK, stopped, stopLimit + time.Second, "", "it took 8s to stop"},
		"stopped while frozen":  {exitOK, actions{signalled: noon, thawed: at(9 * time.Second)}, 10 * time.Second, "", ""},
		"killed while stopping": {exitKilled, actions{signalled: noon, killed: true}, time.Minute, "", ""},
		"stopped by itself":     {exitOK, actions{}, 0, "", "no signal told it to stop"},
		"lost":                  {exitLost, actions{}, 0, "", ""},
		"lost, then stopped":    {exitLost, stopped, time.Second, "", ""},
		"conflict":              {exitConflict, actions{}, 0, "", ""},
		"killed":                {exitKilled, actions{killed: true}, 0, "", ""},
		"killed by another":     {exitKilled, actions{}, 0, "", "chaos did not send"},
		"failure":               {exitFailure, actions{}, 0, "", "not an expected exit code"},
		"undocumented":          {66, stopped, 0, "", "not an expected exit code"},
		"panic":                 {exitOK, stopped, 0, "panic: oh", `its output has "panic:"`},
		"race":                  {exitLost, actions{}, 0, "WARNING: DATA RACE", "DATA RACE"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := checkExit(test.code, test.done, at(test.took), test.output)
			if test.want == "" {
				require.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			require.Contains(t, problems[0], test.want)
		})
	}
}
