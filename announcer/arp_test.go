package announcer

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The frames in hexadecimal: hardware type, protocol type, the lengths of their
// addresses, operation, MAC and address of the sender, MAC and address of the target.
const (
	announceRequest = "0001 0800 0604 0001 020000000001 0a4d0064 000000000000 0a4d0064"
	announceReply   = "0001 0800 0604 0002 020000000001 0a4d0064 020000000001 0a4d0064"
	probe           = "0001 0800 0604 0001 020000000001 00000000 000000000000 0a4d0064"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestARPFrames(t *testing.T) {
	request, reply := arpAnnouncements[0](ourMAC, vip), arpAnnouncements[1](ourMAC, vip)
	require.Equal(t, Outbound{To: broadcast, Payload: unhex(t, announceRequest)}, request)
	require.Equal(t, Outbound{To: broadcast, Payload: unhex(t, announceReply)}, reply)
	require.Equal(t, Outbound{To: peerMAC, Payload: unhex(t, probe)}, arpProbe(peerMAC, ourMAC, vip))
}
