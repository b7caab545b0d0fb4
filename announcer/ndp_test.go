package announcer

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	vip6    = netip.MustParseAddr("fd77::100")
	source6 = netip.MustParseAddr("fe80::11") // ours
	peer6   = netip.MustParseAddr("fe80::12")
)

// The frames in hexadecimal: the IPv6 header with length, next header and hop limit,
// source and destination, and the message with type, code, checksum, flags, target and
// options.
const (
	header32 = "60000000 0020 3a ff "
	header24 = "60000000 0018 3a ff "
	hexVIP6  = " fd770000000000000000000000000100 "
	hexOurs6 = " fe800000000000000000000000000011 "
	hexPeer6 = " fe800000000000000000000000000012 "
	hexNone6 = " 00000000000000000000000000000000 "
	hexAll6  = " ff020000000000000000000000000001 "
	hexGroup = " ff0200000000000000000001ff000100 " // of vip6
)

// frame6 completes a frame in hexadecimal with the checksum of its message.
func frame6(t testing.TB, s string) []byte {
	t.Helper()
	b := unhex(t, s)
	source, _ := netip.AddrFromSlice(b[8:24])
	destination, _ := netip.AddrFromSlice(b[24:40])
	binary.BigEndian.PutUint16(b[42:], icmpv6Sum(source, destination, b[40:]))
	return b
}

func TestNDPFrames(t *testing.T) {
	group := net.HardwareAddr{0x33, 0x33, 0xff, 0, 1, 0}
	require.Equal(t, Outbound{
		To:      net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1},
		Payload: frame6(t, header32+hexVIP6+hexAll6+"88 00 0000 20000000"+hexVIP6+"0201 020000000001"),
	}, ndpAnnouncements(ourMAC, vip6, RequestAndReply, false)[0])
	require.Equal(t,
		frame6(t, header32+hexVIP6+hexAll6+"88 00 0000 a0000000"+hexVIP6+"0201 020000000001"),
		ndpAnnouncements(ourMAC, vip6, RequestAndReply, true)[0].Payload)
	require.Equal(t, Outbound{
		To:      peerMAC,
		Payload: frame6(t, header32+hexOurs6+hexGroup+"87 00 0000 00000000"+hexVIP6+"0101 020000000001"),
	}, ndpRequest(peerMAC, ourMAC, source6, vip6))
	require.Equal(t, Outbound{
		To:      group,
		Payload: frame6(t, header24+hexNone6+hexGroup+"87 00 0000 00000000"+hexVIP6),
	}, ndpWord(broadcast, ourMAC, vip6, Nonce{}))
	require.Equal(t, Outbound{
		To:      peerMAC,
		Payload: frame6(t, header32+hexNone6+hexGroup+"87 00 0000 00000000"+hexVIP6+"0e01 010203040506"),
	}, ndpWord(peerMAC, ourMAC, vip6, nonce))
}

func TestNDPMessage(t *testing.T) {
	const advertisement, solicitation = "88 00 0000 ", "87 00 0000 "
	claim := func(sender, target netip.Addr, mac net.HardwareAddr, reply bool) message {
		return message{mac: mac, sender: sender, target: target, reply: reply}
	}
	for name, tc := range map[string]struct {
		frame string
		want  message
		as    Verdict
	}{
		"announcement":         {header32 + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6 + "0201 020000000077", claim(vip6, allNodes, thirdMAC, true), VerdictClaim},
		"answer":               {header32 + hexPeer6 + hexOurs6 + advertisement + "60000000" + hexVIP6 + "0201 020000000077", claim(vip6, source6, thirdMAC, true), VerdictClaim},
		"answer without a MAC": {header24 + hexPeer6 + hexOurs6 + advertisement + "60000000" + hexVIP6, claim(vip6, source6, peerMAC, true), VerdictClaim},
		"question":             {header32 + hexPeer6 + hexGroup + solicitation + "00000000" + hexVIP6 + "0101 020000000077", claim(peer6, vip6, thirdMAC, false), VerdictClaim},
		"unicast question":     {header24 + hexPeer6 + hexVIP6 + solicitation + "00000000" + hexVIP6, claim(peer6, vip6, peerMAC, false), VerdictClaim},
		"an unknown option":    {"60000000 0028 3a ff " + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6 + "fe01 000000000000 0201 020000000077", claim(vip6, allNodes, thirdMAC, true), VerdictClaim},
		"padded":               {header24 + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6 + "!0000", claim(vip6, allNodes, peerMAC, true), VerdictClaim},

		"probe":                   {header24 + hexNone6 + hexGroup + solicitation + "00000000" + hexVIP6, message{mac: peerMAC, sender: netip.IPv6Unspecified(), target: vip6}, VerdictProbe},
		"word":                    {header32 + hexNone6 + hexGroup + solicitation + "00000000" + hexVIP6 + "0e01 010203040506", message{mac: peerMAC, sender: netip.IPv6Unspecified(), target: vip6, nonce: nonce}, VerdictProbe},
		"a nonce of another kind": {"60000000 0028 3a ff " + hexNone6 + hexGroup + solicitation + "00000000" + hexVIP6 + "0e02 0102030405060708090a0b0c0d0e", message{mac: peerMAC, sender: netip.IPv6Unspecified(), target: vip6}, VerdictProbe},

		"forwarded":                      {"60000000 0018 3a fe " + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6, message{}, VerdictMalformed},
		"code":                           {header24 + hexVIP6 + hexAll6 + "88 01 0000 20000000" + hexVIP6, message{}, VerdictMalformed},
		"probe with a MAC":               {header32 + hexNone6 + hexGroup + solicitation + "00000000" + hexVIP6 + "0101 020000000077", message{}, VerdictMalformed},
		"probe to the address":           {header24 + hexNone6 + hexVIP6 + solicitation + "00000000" + hexVIP6, message{}, VerdictMalformed},
		"question for a group":           {header24 + hexPeer6 + hexGroup + solicitation + "00000000" + hexAll6, message{}, VerdictMalformed},
		"answer for a group":             {header24 + hexPeer6 + hexOurs6 + advertisement + "60000000" + hexAll6, message{}, VerdictMalformed},
		"answer for no address":          {header24 + hexPeer6 + hexOurs6 + advertisement + "60000000" + hexNone6, message{}, VerdictMalformed},
		"answer to everybody":            {header24 + hexPeer6 + hexAll6 + advertisement + "60000000" + hexVIP6, message{}, VerdictMalformed},
		"an option of no length":         {header32 + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6 + "0200 020000000077", message{}, VerdictMalformed},
		"a MAC of another length":        {"60000000 0028 3a ff " + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6 + "0202 0200000000770000000000000000", message{}, VerdictMalformed},
		"longer than the packet":         {"60000000 0028 3a ff " + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6, message{}, VerdictMalformed},
		"router advertisement":           {header24 + hexPeer6 + hexAll6 + "86 00 0000 40000000" + hexNone6, message{}, VerdictForeign},
		"echo request":                   {header24 + hexPeer6 + hexOurs6 + "80 00 0000 40000000" + hexNone6, message{}, VerdictForeign},
		"another protocol":               {"60000000 0018 11 ff " + hexPeer6 + hexOurs6 + "88 00 0000 60000000" + hexVIP6, message{}, VerdictForeign},
		"a version that does not exist":  {"40000000 0018 3a ff " + hexVIP6 + hexAll6 + advertisement + "20000000" + hexVIP6, message{}, VerdictMalformed},
		"an IPv4 address in IPv6 format": {header24 + hexVIP6 + hexAll6 + advertisement + "20000000 00000000000000000000ffff0a4d0064", message{}, VerdictMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s, padding, _ := strings.Cut(tc.frame, "!")
			m, verdict := ndpMessage(append(frame6(t, s), unhex(t, padding)...), peerMAC)
			require.Equal(t, tc.as.String(), verdict.String())
			require.Equal(t, tc.want, m)
		})
	}
}

// Of a truncated frame, or one with a wrong bit, nothing is believed.
func TestNDPMessageDamaged(t *testing.T) {
	frame := ndpAnnouncements(peerMAC, vip6, RequestAndReply, false)[0].Payload
	for n := range len(frame) {
		m, verdict := ndpMessage(frame[:n], peerMAC)
		require.Equal(t, VerdictMalformed, verdict, "%d bytes", n)
		require.Zero(t, m)
	}
	for bit := 8 * 8; bit < 8*len(frame); bit++ {
		damaged := slices.Clone(frame)
		damaged[bit/8] ^= 1 << (bit % 8)
		_, verdict := ndpMessage(damaged, peerMAC)
		require.Contains(t, []Verdict{VerdictMalformed, VerdictForeign}, verdict, "bit %d", bit)
	}
}

func FuzzNDPMessage(f *testing.F) {
	f.Add(ndpAnnouncements(peerMAC, vip6, RequestAndReply, true)[0].Payload, true)
	f.Add(ndpRequest(peerMAC, ourMAC, source6, vip6).Payload, true)
	f.Add(ndpWord(broadcast, ourMAC, vip6, nonce).Payload, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) >= 64 {
			b[0], b[6], b[7], b[41] = 6<<4, ipv6ICMP, ndpHopLimit, 0
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6HeaderLen))
			b[42], b[43] = 0, 0
			source, _ := netip.AddrFromSlice(b[8:24])
			destination, _ := netip.AddrFromSlice(b[24:40])
			binary.BigEndian.PutUint16(b[42:], icmpv6Sum(source, destination, b[40:]))
		}
		m, verdict := ndpMessage(b, peerMAC)
		if verdict != VerdictProbe && verdict != VerdictClaim {
			require.Zero(t, m)
			return
		}
		require.Len(t, m.mac, macLen)
		require.Equal(t, verdict == VerdictProbe, m.sender.IsUnspecified())
		require.False(t, m.sender.Is4() || m.target.Is4())
		if m.reply {
			require.Equal(t, b[48:64], m.sender.AsSlice())
			require.Equal(t, b[24:40], m.target.AsSlice())
		} else {
			require.Equal(t, b[8:24], m.sender.AsSlice())
			require.Equal(t, b[48:64], m.target.AsSlice())
		}
		before := slices.Clone(m.mac)
		clear(b)
		require.Equal(t, before, m.mac, "the MAC does not share the buffer")
	})
}
