package netif

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// message returns the payload of an address message.
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
				attr(unix.IFA_ADDRESS, 10, 0, 0, 7), attr(unix.IFA_LOCAL, 10, 0, 0, 7), attr(ifaProto, byte(AgentTag))),
			want: address{index: 3, prefix: prefix("10.0.0.7/24"), subnet: prefix("10.0.0.0/24"), tag: AgentTag},
		},
		{
			name: "keepalived's, permanent",
			m: message(unix.AF_INET, 32, unix.IFA_F_PERMANENT, 3,
				attr(unix.IFA_ADDRESS, 10, 0, 0, 7), attr(unix.IFA_LOCAL, 10, 0, 0, 7), attr(ifaProto, 18)),
			want: address{index: 3, prefix: prefix("10.0.0.7/32"), subnet: prefix("10.0.0.7/32"), tag: 18, permanent: true},
		},
		{
			name: "secondary",
			m:    message(unix.AF_INET, 24, unix.IFA_F_PERMANENT|unix.IFA_F_SECONDARY, 3, attr(unix.IFA_LOCAL, 10, 0, 0, 7)),
			want: address{index: 3, prefix: prefix("10.0.0.7/24"), subnet: prefix("10.0.0.0/24"), permanent: true, secondary: true},
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
			name: "IPv6, temporary and tentative",
			m:    message(unix.AF_INET6, 64, unix.IFA_F_TEMPORARY|unix.IFA_F_TENTATIVE, 3, attr(unix.IFA_ADDRESS, v6...)),
			want: address{index: 3, prefix: prefix("fd00::7/64"), subnet: prefix("fd00::/64"), secondary: true, tentative: true},
		},
		{
			name: "IPv6, in use by another host",
			m:    message(unix.AF_INET6, 64, unix.IFA_F_DADFAILED, 3, attr(unix.IFA_ADDRESS, v6...)),
			want: address{index: 3, prefix: prefix("fd00::7/64"), subnet: prefix("fd00::/64"), tentative: true},
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
	f.Add(message(unix.AF_INET, 24, 0, 3, attr(unix.IFA_LOCAL, 10, 0, 0, 7), attr(ifaProto, byte(AgentTag))))
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
