package announce

import (
	"bytes"
	"net"
	"time"
)

const (
	// yieldTime is how long a rival with a higher MAC may go on claiming the address. It
	// gives up as soon as it hears this host, which answers its claims.
	yieldTime = 3 * time.Second

	// rivalMemory is how long after its last claim a rival is forgotten.
	rivalMemory = time.Minute
)

// rivals are the other stations that claim the address. Of two announcers the one with
// the higher MAC gives up, so that one stays. A rival that never does so is no announcer,
// or does not hear this host; then this host has to.
type rivals map[string]rivalry

// rivalry is a row of claims of one rival.
type rivalry struct{ first, last time.Time }

// claim notes a claim and reports whether this host has to give up.
func (r rivals) claim(own, mac net.HardwareAddr, at time.Time) (giveUp bool) {
	row, known := r[string(mac)]
	if !known || at.Sub(row.last) > rivalMemory {
		row.first = at
	}
	row.last = at
	r[string(mac)] = row
	return bytes.Compare(own, mac) > 0 || at.Sub(row.first) > yieldTime
}
