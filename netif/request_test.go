package netif

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func TestRequestBytes(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes below are those of a little-endian machine")
	}
	for _, tt := range []struct {
		name string
		req  *nl.NetlinkRequest
		want []byte // after the header's 16 bytes
	}{
		{
			name: "add IPv4",
			req:  newAddr(7, prefix("10.77.0.100/32"), 5, unix.NLM_F_CREATE|unix.NLM_F_EXCL),
			want: []byte{
				unix.AF_INET, 32, 0, 0, 7, 0, 0, 0,
				8, 0, unix.IFA_LOCAL, 0, 10, 77, 0, 100,
				8, 0, unix.IFA_ADDRESS, 0, 10, 77, 0, 100,
				20, 0, unix.IFA_CACHEINFO, 0, 5, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				5, 0, 11, 0, 118, 0, 0, 0,
			},
		},
		{
			name: "add IPv6",
			req:  newAddr(258, prefix("fd00::1/128"), 300, unix.NLM_F_CREATE|unix.NLM_F_REPLACE),
			want: []byte{
				unix.AF_INET6, 128, unix.IFA_F_NODAD, 0, 2, 1, 0, 0,
				20, 0, unix.IFA_LOCAL, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
				20, 0, unix.IFA_ADDRESS, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
				20, 0, unix.IFA_CACHEINFO, 0, 0, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				5, 0, 11, 0, 118, 0, 0, 0,
			},
		},
		{
			name: "remove IPv4 of a subnet",
			req:  delAddr(7, prefix("10.77.0.100/24")),
			want: []byte{
				unix.AF_INET, 24, 0, 0, 7, 0, 0, 0,
				8, 0, unix.IFA_LOCAL, 0, 10, 77, 0, 100,
				8, 0, unix.IFA_ADDRESS, 0, 10, 77, 0, 100,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Empty(t, cmp.Diff(tt.want, tt.req.Serialize()[unix.SizeofNlMsghdr:]))
		})
	}
}

func TestRequestFlags(t *testing.T) {
	add := newAddr(7, prefix("10.77.0.100/32"), 5, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	require.EqualValues(t, unix.RTM_NEWADDR, add.Type)
	require.EqualValues(t, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, add.Flags)

	remove := delAddr(7, prefix("10.77.0.100/32"))
	require.EqualValues(t, unix.RTM_DELADDR, remove.Type)
	require.EqualValues(t, unix.NLM_F_REQUEST|unix.NLM_F_ACK, remove.Flags)
}

// attr is one attribute as the kernel writes it.
func attr(typ uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

// message is the payload of an address message.
func message(family, bits, flags byte, index uint32, attrs ...[]byte) []byte {
	m := binary.NativeEndian.AppendUint32([]byte{family, bits, flags, 0}, index)
	for _, a := range attrs {
		m = append(m, a...)
	}
	return m
}

func TestParseAddress(t *testing.T) {
	v6 := netip.MustParseAddr("fd00::7").AsSlice()
	for _, tt := range []struct {
		name string
		m    []byte
		want address
	}{
		{
			name: "IPv4, ours",
			m: message(unix.AF_INET, 24, 0, 3,
				attr(unix.IFA_ADDRESS, 10, 0, 0, 7), attr(unix.IFA_LOCAL, 10, 0, 0, 7), attr(ifaProto, tag)),
			want: address{index: 3, prefix: prefix("10.0.0.7/24"), subnet: prefix("10.0.0.0/24"), ours: true},
		},
		{
			name: "keepalived's, permanent",
			m: message(unix.AF_INET, 32, unix.IFA_F_PERMANENT, 3,
				attr(unix.IFA_ADDRESS, 10, 0, 0, 7), attr(unix.IFA_LOCAL, 10, 0, 0, 7), attr(ifaProto, 18)),
			want: address{index: 3, prefix: prefix("10.0.0.7/32"), subnet: prefix("10.0.0.7/32"), permanent: true},
		},
		{
			name: "with a peer",
			m:    message(unix.AF_INET, 30, 0, 3, attr(unix.IFA_ADDRESS, 10, 0, 0, 9), attr(unix.IFA_LOCAL, 10, 9, 9, 9)),
			want: address{index: 3, prefix: prefix("10.9.9.9/30"), subnet: prefix("10.0.0.8/30")},
		},
		{
			name: "IPv6 names IFA_ADDRESS only",
			m:    message(unix.AF_INET6, 64, 0, 70000, attr(unix.IFA_ADDRESS, v6...)),
			want: address{index: 70000, prefix: prefix("fd00::7/64"), subnet: prefix("fd00::/64")},
		},
		{
			name: "attribute types may carry flags",
			m:    message(unix.AF_INET, 8, 0, 1, attr(unix.IFA_LOCAL|0x8000, 127, 0, 0, 1)),
			want: address{index: 1, prefix: prefix("127.0.0.1/8"), subnet: prefix("127.0.0.0/8")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseAddress(tt.m)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for name, m := range map[string][]byte{
		"nothing":                {},
		"half a header":          {unix.AF_INET, 32, 0},
		"no address":             message(unix.AF_INET, 32, 0, 1),
		"an address of 3 bytes":  message(unix.AF_INET, 32, 0, 1, attr(unix.IFA_LOCAL, 1, 2, 3)),
		"33 bits":                message(unix.AF_INET, 33, 0, 1, attr(unix.IFA_LOCAL, 1, 2, 3, 4)),
		"attribute without size": message(unix.AF_INET, 32, 0, 1, []byte{0, 0, 0, 0}),
		"attribute too long":     message(unix.AF_INET, 32, 0, 1, attr(unix.IFA_LOCAL, 1, 2, 3, 4)[:6]),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseAddress(m)
			require.Error(t, err)
		})
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add(message(unix.AF_INET, 24, 0, 3, attr(unix.IFA_LOCAL, 10, 0, 0, 7), attr(ifaProto, tag)))
	f.Add(message(unix.AF_INET6, 64, 0, 3, attr(unix.IFA_ADDRESS, netip.MustParseAddr("fd00::7").AsSlice()...)))
	f.Add(message(unix.AF_INET, 24, 0, 3, []byte{5, 0, unix.IFA_LOCAL, 0, 10}))
	f.Fuzz(func(t *testing.T, m []byte) {
		a, err := parseAddress(m)
		if err != nil {
			return
		}
		require.True(t, a.prefix.IsValid())
		require.Equal(t, a.prefix.Bits(), a.subnet.Bits())
		require.Equal(t, a.subnet.Masked(), a.subnet)
	})
}

func FuzzParseLink(f *testing.F) {
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), attr(unix.IFLA_IFNAME, 'e', 't', 'h', '0', 0)...))
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), attr(unix.IFLA_ADDRESS, 2, 0, 0, 0, 0, 1)...))
	f.Fuzz(func(t *testing.T, m []byte) {
		l, err := parseLink(m)
		if err == nil {
			require.LessOrEqual(t, len(l.name)+len(l.mac)+len(l.permanent), len(m))
		}
	})
}
