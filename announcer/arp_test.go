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
	wordFrame       = "0001 0800 0604 0001 020000000001 00000000 010203040506 0a4d0064"
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
	require.Equal(t, Outbound{To: peerMAC, Payload: unhex(t, probe)}, arpWord(peerMAC, ourMAC, vip, Nonce{}))
	require.Equal(t, Outbound{To: peerMAC, Payload: unhex(t, wordFrame)}, arpWord(peerMAC, ourMAC, vip, nonce))
}

// The test reads the bytes of a probe without the ARP codec.
func FuzzProbed(f *testing.F) {
	for _, seed := range []string{
		"", probe, wordFrame, wordFrame + "0000", announceRequest,
		"0001 0800 0604 0002 020000000099 00000000 020000000001 0a4d0064",
	} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, verdict := arpSender(b)
		addr, mac, n := arpProbed(b)
		if verdict != VerdictProbe {
			return
		}
		require.Equal(t, b[24:28], addr.AsSlice())
		require.Equal(t, b[8:14], []byte(mac))
		if b[7] == 1 {
			require.Equal(t, b[18:24], n[:])
		} else {
			require.Zero(t, n, "only a request carries a nonce")
		}
	})
}
