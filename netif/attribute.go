package netif

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// attrTypeMask is NLA_TYPE_MASK of linux/netlink.h: the bits of an attribute's type
// without its flags.
const attrTypeMask = 0x3fff

// eachAttr calls f for each netlink attribute in b. The type has no flags.
func eachAttr(b []byte, f func(typ uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return fmt.Errorf("a netlink attribute of %d bytes does not fit in the remaining %d", size, len(b))
		}
		f(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[unix.SizeofRtAttr:size])
		b = b[min(align(size), len(b)):]
	}
	return nil
}

// align rounds a length up to netlink's alignment.
func align(n int) int {
	return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
}

// number returns the value of an attribute of 32 bits, or 0 if it has another size.
func number(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}
