package main

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/capability"
	"github.com/consul-vip/consul-vip/cmd/consul-vip/internal/probe"
)

// needsRaw skips a test where no packet socket can be opened.
func needsRaw(t *testing.T) {
	t.Helper()
	if err := capability.Check(capability.NetRaw); err != nil {
		t.Skip(err)
	}
}

func TestProbeMistakes(t *testing.T) {
	for text, args := range map[string][]string{
		"probe needs an ADDRESS":             {"probe"},
		`"10.77.0" is not the IP address`:    {"probe", "10.77.0"},
		`"224.0.0.1" is not the IP address`:  {"probe", "224.0.0.1"},
		`"fe80::1%lo" is not the IP address`: {"probe", "fe80::1%lo"},
		"-tries":                             {"probe", "10.77.0.1", "-tries=0"},
		"-window":                            {"probe", "10.77.0.1", "-window=0"},
		"-prefix: -config names it already":  {"probe", "-config=x.hcl", "-prefix=x"},
	} {
		var stderr bytes.Buffer
		require.Equal(t, exitUsage, run(args, &bytes.Buffer{}, &stderr), args)
		require.Contains(t, stderr.String(), text)
	}
}

func TestProbeOnNoInterface(t *testing.T) {
	needsRaw(t)
	var stderr bytes.Buffer
	require.Equal(t, exitUsage, run([]string{"probe", "10.77.0.1", "-interface=none0"}, &bytes.Buffer{}, &stderr))
	require.Contains(t, stderr.String(), "-interface")
}

// results are two addresses: one has two owners, nobody has the other.
func results() []probe.Result {
	first := probe.Found{Target: probe.Target{Addr: netip.MustParseAddr("10.77.0.1"), Interface: "eth0"}}
	return []probe.Result{
		{Found: first, Problems: []probe.Problem{probe.TwoOwners}, Stations: []probe.Station{
			{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Delay: 250 * time.Microsecond, Direct: true},
			{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Delay: 3 * time.Millisecond},
		}},
		{Found: probe.Found{Target: probe.Target{Addr: netip.MustParseAddr("fd77::1")}}, Problems: []probe.Problem{probe.Silence}},
	}
}

func TestProbeTable(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, showProbe(&b, false, false, results()))
	require.Equal(t, `ADDRESS    INTERFACE  MAC                DELAY    NOTE
10.77.0.1  eth0       02:00:00:00:00:01  0.25 ms  
                      02:00:00:00:00:02  3.00 ms  silent when asked directly: another device may have answered for it
fd77::1    -          -                  -        nobody answers
`, b.String())
}

func TestProbeVerdict(t *testing.T) {
	require.NoError(t, verdict(nil))
	all := results()
	require.Equal(t, exitConflict, exitCode(verdict(all)))
	require.Equal(t, exitFailure, exitCode(verdict(all[1:])))
	require.True(t, errors.Is(verdict(all), errSeveral))
}
