package netif

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func TestRequestBytes(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the expected bytes are little-endian")
	}
	for _, tt := range []struct {
		name string
		req  *nl.NetlinkRequest
		want []byte // after the header's 16 bytes
	}{
		{
			name: "add IPv4",
			req:  newAddr(7, prefix("10.77.0.100/32"), AgentTag, 5, unix.NLM_F_CREATE|unix.NLM_F_EXCL),
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
			req:  newAddr(258, prefix("fd00::1/128"), AgentTag, 300, unix.NLM_F_CREATE|unix.NLM_F_REPLACE),
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
			require.Equal(t, tt.want, tt.req.Serialize()[unix.SizeofNlMsghdr:])
		})
	}
}

func TestRequestFlags(t *testing.T) {
	add := newAddr(7, prefix("10.77.0.100/32"), AgentTag, 5, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	require.EqualValues(t, unix.RTM_NEWADDR, add.Type)
	require.EqualValues(t, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, add.Flags)

	remove := delAddr(7, prefix("10.77.0.100/32"))
	require.EqualValues(t, unix.RTM_DELADDR, remove.Type)
	require.EqualValues(t, unix.NLM_F_REQUEST|unix.NLM_F_ACK, remove.Flags)
}
