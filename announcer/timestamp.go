package announcer

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// receiveTime returns when the kernel received a frame, on the monotonic clock. oob
// holds the control messages of the frame, now is the current time. The kernel's
// timestamp is of the wall clock, which may be set at any time, so only the age of the
// frame, a few microseconds, is computed from it. A frame without a timestamp or with
// one from the future has the age 0.
func receiveTime(oob []byte, now time.Time) time.Time {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS_NEW && len(data) >= 16 {
			sec := int64(binary.NativeEndian.Uint64(data))
			nsec := int64(binary.NativeEndian.Uint64(data[8:]))
			return now.Add(-max(0, now.Sub(time.Unix(sec, nsec))))
		}
		oob = rest
	}
	return now
}
