package announcer

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// controlMessage returns a control message in the format of the kernel.
func controlMessage(level, typ int32, data ...uint64) []byte {
	b := make([]byte, unix.CmsgSpace(8*len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(8 * len(data)))
	for i, v := range data {
		binary.NativeEndian.PutUint64(b[unix.CmsgLen(8*i):], v)
	}
	return b
}

func TestReceiveTime(t *testing.T) {
	now := time.Now()
	timestamp := func(age time.Duration) []byte {
		at := now.Add(-age)
		return controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, uint64(at.Unix()), uint64(at.Nanosecond()))
	}
	other := controlMessage(unix.SOL_PACKET, unix.PACKET_AUXDATA, 1, 2)
	for name, tc := range map[string]struct {
		oob  []byte
		want time.Duration
	}{
		"timestamp":           {timestamp(5 * time.Millisecond), 5 * time.Millisecond},
		"after another":       {append(other, timestamp(time.Second)...), time.Second},
		"clock was set back":  {timestamp(-time.Hour), 0},
		"no timestamp":        {nil, 0},
		"only another":        {other, 0},
		"empty timestamp":     {controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW), 0},
		"garbage":             {make([]byte, 64), 0},
		"cut within a header": {timestamp(time.Second)[:unix.SizeofCmsghdr-1], 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := receiveTime(tc.oob, now)
			require.Equal(t, tc.want, now.Sub(got))
			require.Contains(t, got.String(), "m=", "monotonic")
		})
	}
}
