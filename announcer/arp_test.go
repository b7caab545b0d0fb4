package announcer

import (
	"encoding/hex"
	"net/netip"
	"slices"
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
	both := arpAnnouncements(ourMAC, vip, RequestAndReply, false)
	require.Equal(t, Outbound{To: broadcast, Payload: unhex(t, announceRequest)}, both[0])
	require.Equal(t, Outbound{To: broadcast, Payload: unhex(t, announceReply)}, both[1])
	require.Equal(t, Outbound{To: peerMAC, Payload: unhex(t, probe)}, arpProbe(peerMAC, ourMAC, netip.Addr{}, vip))
	require.Equal(t, Outbound{To: peerMAC, Payload: unhex(t, probe)}, arpWord(peerMAC, ourMAC, vip, Nonce{}))
	require.Equal(t, Outbound{To: peerMAC, Payload: unhex(t, wordFrame)}, arpWord(peerMAC, ourMAC, vip, nonce))
}

// The test reads the bytes of a frame without the ARP codec.
func FuzzARPMessage(f *testing.F) {
	for _, seed := range []string{
		"", probe, wordFrame, wordFrame + "0000", announceRequest, announceReply, peerRequest, peerReply,
		"0001 0800 0604 0002 020000000099 00000000 020000000001 0a4d0064",
		"0001 0800 0604 0002 020000000099 0a4d000c 020000000001 0a4d000b",
		"0001 0800 ffff 0002 020000000099 0a4d000c",
	} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, verdict := arpMessage(b)
		a, answers := m.answer()
		if verdict != VerdictProbe && verdict != VerdictClaim {
			require.Zero(t, m)
			return
		}
		reply, known := b[7] == 2, string(b[14:18]) != "\x00\x00\x00\x00"
		require.Equal(t, b[8:14], []byte(m.mac))
		require.Equal(t, b[14:18], m.sender.AsSlice())
		require.Equal(t, b[24:28], m.target.AsSlice())
		require.Equal(t, known, verdict == VerdictClaim)
		require.Equal(t, reply && string(b[14:18]) != string(b[24:28]), answers)
		require.Equal(t, neighborAddr{m.sender, m.target}, a)
		if known || reply {
			require.Zero(t, m.nonce, "only a probe carries one")
		} else {
			require.Equal(t, b[18:24], m.nonce[:])
		}
		before := slices.Clone(m.mac)
		clear(b)
		require.Equal(t, before, m.mac, "the MAC does not share the buffer")
	})
}
