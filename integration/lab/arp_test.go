package lab

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARPFrame(t *testing.T) {
	mac := []byte{2, 0, 0, 0, 0, 9}
	frame := Gratuitous(ARPReply, mac, vip).Frame()
	require.Len(t, frame, arpFrameLen)
	a, ok := parseARP(frame)
	require.True(t, ok)
	require.Equal(t, frame, a.Frame())
	require.EqualValues(t, ARPReply, a.Operation)
	require.Equal(t, vip, a.SenderIP)
	require.Equal(t, vip, a.TargetIP)

	probe, ok := parseARP(Probe(mac, vip).Frame())
	require.True(t, ok)
	require.True(t, probe.SenderIP.IsUnspecified())

	for n := range frame {
		_, ok := parseARP(frame[:n])
		require.False(t, ok, "%d bytes", n)
	}
}
