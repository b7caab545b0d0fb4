package announcer

import (
	"net"
	"net/netip"
	"time"
)

// A message is what a received frame says.
type message struct {
	mac    net.HardwareAddr // of the sender
	sender netip.Addr       // that the sender says it has; unspecified in a probe
	target netip.Addr       // that is asked for; in a reply the asker's
	reply  bool
	nonce  Nonce // of a probe

	received time.Time
	verdict  Verdict
}

// answer returns what a reply answers. A gratuitous one answers nothing.
func (m message) answer() (a neighborAddr, ok bool) {
	return neighborAddr{m.sender, m.target}, m.reply && m.sender != m.target
}
