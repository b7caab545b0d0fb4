package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const agentLog = `panic: no JSON
{"@message":"state changed","@timestamp":"2026-01-02T03:04:05.000006Z","vip":"10.77.1.1","state":"standby"}
{"@message":"state changed","@timestamp":"2026-01-02T03:04:06.000006Z","vip":"10.77.1.1","state":"active"}
{"@message":"address conflict","vip":"10.77.1.1","reaction":"1.5ms"}
`

func TestEntries(t *testing.T) {
	o := new(Output)
	_, err := o.Write([]byte(agentLog))
	require.NoError(t, err)
	entries := o.Entries()
	require.Len(t, entries, 3)
	require.Equal(t, "state changed", entries[0].Message())
	require.Equal(t, "standby", entries[0].Get("state"))
	require.Equal(t, 6000, entries[0].Time().Nanosecond())
	require.Empty(t, entries[0].Get("mac"))
	require.True(t, entries[2].Time().IsZero())
}

func TestAgentLog(t *testing.T) {
	o := new(Output)
	require.Empty(t, o.States())
	_, ok := o.Reaction()
	require.False(t, ok)

	_, err := o.Write([]byte(agentLog))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"10.77.1.1": "active"}, o.States())
	after, ok := o.Reaction()
	require.True(t, ok)
	require.Equal(t, 1500*time.Microsecond, after)
	require.Len(t, o.Logged("state changed"), 2)
}
