package announcer

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Frames of another station that claim vip.
const (
	peerRequest = "0001 0800 0604 0001 020000000099 0a4d0064 000000000000 0a4d0064"
	peerReply   = "0001 0800 0604 0002 020000000099 0a4d0064 020000000001 0a4d0001"
)

var since = time.Unix(1000, 0)

// classifyPayload classifies a payload on a host that has the MACs ourMAC and secondMAC
// and listens to the claims of vip from since on.
func classifyPayload(payload []byte, received time.Time) (message, []*Listener) {
	l := &Listener{addr: vip, since: since}
	of := func(a netip.Addr) []*Listener {
		if a == vip {
			return []*Listener{l}
		}
		return nil
	}
	own := func(mac net.HardwareAddr) bool {
		return bytes.Equal(mac, ourMAC) || bytes.Equal(mac, secondMAC)
	}
	return classify(Inbound{Payload: payload, Received: received}, protocols[IPv4].decode, of, own)
}

func TestClassify(t *testing.T) {
	for name, tc := range map[string]struct {
		frame string
		want  Verdict
	}{
		"request claims":          {peerRequest, VerdictClaim},
		"reply claims":            {peerReply, VerdictClaim},
		"gratuitous reply claims": {"0001 0800 0604 0002 020000000099 0a4d0064 020000000099 0a4d0064", VerdictClaim},
		"request for another":     {"0001 0800 0604 0001 020000000099 0a4d0064 000000000000 0a4d0007", VerdictClaim},
		"padded to 60 bytes":      {peerRequest + "000000000000000000000000000000000000", VerdictClaim},
		"trailing bytes":          {peerRequest + "deadbeef", VerdictClaim},

		"probe":                    {"0001 0800 0604 0001 020000000099 00000000 000000000000 0a4d0064", VerdictProbe},
		"reply from no address":    {"0001 0800 0604 0002 020000000099 00000000 020000000001 0a4d0064", VerdictProbe},
		"own announcement":         {announceRequest, VerdictOwn},
		"second interface's reply": {"0001 0800 0604 0002 020000000002 0a4d0064 020000000099 0a4d0001", VerdictOwn},
		"request for the VIP":      {"0001 0800 0604 0001 020000000099 0a4d0007 000000000000 0a4d0064", VerdictOtherAddress},
		"claim of another address": {"0001 0800 0604 0001 020000000099 0a4d0065 000000000000 0a4d0065", VerdictOtherAddress},

		"zero MAC":               {"0001 0800 0604 0001 000000000000 0a4d0064 000000000000 0a4d0064", VerdictBadMAC},
		"broadcast MAC":          {"0001 0800 0604 0002 ffffffffffff 0a4d0064 000000000000 0a4d0064", VerdictBadMAC},
		"multicast MAC":          {"0001 0800 0604 0002 01005e000001 0a4d0064 000000000000 0a4d0064", VerdictBadMAC},
		"bad MAC, other address": {"0001 0800 0604 0002 ffffffffffff 0a4d0065 000000000000 0a4d0065", VerdictOtherAddress},

		"IEEE 802 hardware":   {"0006 0800 0604 0001 020000000099 0a4d0064 000000000000 0a4d0064", VerdictForeign},
		"not IPv4":            {"0001 86dd 0604 0001 020000000099 0a4d0064 000000000000 0a4d0064", VerdictForeign},
		"operation 0":         {"0001 0800 0604 0000 020000000099 0a4d0064 000000000000 0a4d0064", VerdictForeign},
		"inverse ARP":         {"0001 0800 0604 0008 020000000099 0a4d0064 000000000000 0a4d0064", VerdictForeign},
		"IPv6 lengths":        {"0001 86dd 0610 0001 020000000099 fd000000000000000000000000000064 000000000000 fd000000000000000000000000000064", VerdictForeign},
		"IPv4 16 bytes long":  {"0001 0800 0610 0001 020000000099 00000000000000000000ffff0a4d0064 000000000000 00000000000000000000ffff0a4d0064", VerdictMalformed},
		"8-byte MACs":         {"0001 0800 0804 0001 0200000000000099 0a4d0064 0000000000000000 0a4d0064", VerdictMalformed},
		"no MACs at all":      {"0001 0800 0004 0001 0a4d0064 0a4d0064", VerdictMalformed},
		"no addresses at all": {"0001 0800 0600 0001 020000000099 000000000000", VerdictMalformed},
		"wrong lengths":       {"0001 0800 ffff 0001 020000000099 0a4d0064 000000000000 0a4d0064", VerdictMalformed},
		"empty":               {"", VerdictMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			m, listeners := classifyPayload(unhex(t, tc.frame), since)
			require.Equal(t, tc.want.String(), m.verdict.String())
			if tc.want != VerdictClaim {
				require.Empty(t, listeners)
				return
			}
			require.Equal(t, vip, m.sender)
			require.Equal(t, peerMAC, m.mac)
			require.Equal(t, since, m.received)
			require.Len(t, listeners, 1)
		})
	}
}

func TestClassifyTruncated(t *testing.T) {
	frame := unhex(t, peerRequest)
	for n := range len(frame) {
		m, _ := classifyPayload(frame[:n], since)
		require.Equal(t, VerdictMalformed, m.verdict, "%d bytes", n)
	}
}

func TestClassifyElsewhere(t *testing.T) {
	m, listeners := classify(Inbound{Payload: unhex(t, peerRequest), Elsewhere: true}, nil, nil, nil)
	require.Equal(t, VerdictElsewhere, m.verdict)
	require.Empty(t, listeners)
}

// A listener gets only the claims that were received after it was created.
func TestClassifyStale(t *testing.T) {
	early, late := &Listener{since: since}, &Listener{since: since.Add(time.Second)}
	of := func(netip.Addr) []*Listener { return []*Listener{early, late} }
	lookups := 0
	own := func(net.HardwareAddr) bool { lookups++; return false }
	at := func(d time.Duration) Inbound {
		return Inbound{Payload: unhex(t, peerRequest), Received: since.Add(d)}
	}

	m, listeners := classify(at(-1), protocols[IPv4].decode, of, own)
	require.Equal(t, VerdictStale, m.verdict)
	require.Empty(t, listeners)
	require.Zero(t, lookups, "isOwn is called only for a frame that would be a claim")

	m, listeners = classify(at(0), protocols[IPv4].decode, of, own)
	require.Equal(t, VerdictClaim, m.verdict)
	require.Equal(t, []*Listener{early}, listeners)

	m, listeners = classify(at(time.Second), protocols[IPv4].decode, of, own)
	require.Equal(t, VerdictClaim, m.verdict)
	require.Equal(t, []*Listener{early, late}, listeners)
}

func TestVerdictNames(t *testing.T) {
	seen := map[string]bool{}
	for v := range verdicts {
		require.NotEmpty(t, v.String())
		require.False(t, seen[v.String()], "two verdicts have the name %q", v)
		seen[v.String()] = true
	}
	require.Equal(t, "verdict -1", Verdict(-1).String())
	require.Equal(t, "verdict 9", verdicts.String())
}

func TestCounts(t *testing.T) {
	var c tally
	c.add(VerdictClaim)
	c.add(VerdictClaim)
	c.add(VerdictElsewhere)
	counts := c.counts()
	require.Len(t, counts, int(verdicts))
	require.EqualValues(t, 2, counts[VerdictClaim])
	require.EqualValues(t, 1, counts[VerdictElsewhere])
	require.Zero(t, counts[VerdictOwn])
}

// The bytes alone decide what is a claim. The test reads them without the ARP codec.
func FuzzClassify(f *testing.F) {
	for _, seed := range []string{
		"", peerRequest, peerReply, announceRequest, announceReply, probe, peerRequest + "0000",
		"0001 0800 0610 0001 020000000099 00000000000000000000ffff0a4d0064 000000000000 00000000000000000000ffff0a4d0064",
		"0001 0800 ffff 0001 020000000099 0a4d0064", "0006 0800 0604 0001 020000000099 0a4d0064 000000000000 0a4d0064",
	} {
		f.Add(unhex(f, seed))
	}
	header := unhex(f, "0001 0800 0604")
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, listeners := classifyPayload(b, since)
		require.Equal(t, before, b)
		require.True(t, m.verdict >= 0 && m.verdict < verdicts)
		want := len(b) >= 28 && bytes.Equal(b[:6], header) && b[6] == 0 && (b[7] == 1 || b[7] == 2) &&
			b[8]&1 == 0 && !bytes.Equal(b[8:14], unknownMAC) &&
			!bytes.Equal(b[8:14], ourMAC) && !bytes.Equal(b[8:14], secondMAC) &&
			bytes.Equal(b[14:18], vip.AsSlice())
		require.Equal(t, want, m.verdict == VerdictClaim, "%s: % x", m.verdict, b)
		require.Equal(t, want, len(listeners) == 1)
		if want {
			require.Equal(t, b[8:14], []byte(m.mac))
			clear(b)
			require.NotEqual(t, []byte(unknownMAC), []byte(m.mac), "the message does not share the buffer")
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	var ls subscribers[*Listener]
	for i := range 1000 {
		ls.add(netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)}), &Listener{}, func() {})
	}
	l := &Listener{addr: vip, since: time.Now()}
	ls.add(vip, l, func() {})
	own := func(net.HardwareAddr) bool { return false }
	for name, frame := range map[string]string{"claim": peerRequest, "probe": probe} {
		in := Inbound{Payload: unhex(b, frame), Received: l.since.Add(time.Second)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				classify(in, protocols[IPv4].decode, ls.of, own)
			}
		})
	}
}
