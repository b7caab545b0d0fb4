package state

import "time"

// contestedBackoffLimit is the longest time for which a contested lock is left
// alone.
const contestedBackoffLimit = time.Minute

// Contested tells of a stranger that had a lock's address: a station that is no
// instance. It stays in the records of the lock for some minutes.
type Contested struct {
	MAC string `json:"mac"` // of the stranger
	By  string `json:"by"`  // the node that met it last
	// Tries is how often an owner has met the stranger since the one that met it first.
	Tries int       `json:"tries"`
	Since time.Time `json:"since"` // when it was met first
	At    time.Time `json:"at"`    // when it was met last
}

// Backoff is for how long every instance leaves the lock alone after it has seen
// the record: not at all after the first encounter, which may have been a single
// forged frame, then 1 s, doubling up to a minute.
func (c *Contested) Backoff() time.Duration {
	if c == nil || c.Tries <= 0 {
		return 0
	}
	return min(time.Second<<min(c.Tries-1, 16), contestedBackoffLimit)
}
